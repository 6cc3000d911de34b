"""The pages of the console, a file per page."""
