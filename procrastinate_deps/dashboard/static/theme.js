// Dark or light: a cookie keeps it, so that the server sends the page as it is to look.

const html = document.documentElement;

export function start() {
  document.getElementById("theme").addEventListener("click", nextTheme);
}

export function nextTheme() {
  const dark = html.dataset.theme ? html.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  html.dataset.theme = dark ? "light" : "dark";
  const data = new URLSearchParams({ theme: html.dataset.theme, csrf_token: document.body.dataset.csrf });
  fetch(`${document.body.dataset.root}/theme`, {
    method: "POST",
    body: data,
    headers: { "X-Requested-With": "fetch" },
    keepalive: true,
  }).catch(() => {});
}
