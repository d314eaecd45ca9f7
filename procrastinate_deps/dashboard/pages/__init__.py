"""What each page reads: its data, of which the template makes HTML and the twin under /api JSON."""
