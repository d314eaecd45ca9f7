"""An app with a task for each second, for workers in processes of their own."""

from procrastinate_deps import App

app = App()


@app.periodic(cron="* * * * * *")
@app.task(name="tick")
def tick(timestamp: int) -> int:
    return timestamp
