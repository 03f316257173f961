"""The platform's own database: what was claimed, published, asked for, judged, released, promoted."""
