"""Everything that knows HTTP: the application, the JSON API, pages, sessions and security headers."""
