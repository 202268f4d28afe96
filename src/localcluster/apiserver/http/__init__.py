"""The API over HTTP: paths, formats, verbs, watches and streams."""
