"""The prediction service: answers over HTTP, follows the champion, logs each prediction before it answers."""
