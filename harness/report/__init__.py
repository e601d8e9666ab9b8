"""Records to tables, figures and a page: for the terminal, Markdown, CSV and HTML."""
