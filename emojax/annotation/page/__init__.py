"""The page of one annotated recording: an HTML file with player, timeline, transcript and filter."""

from emojax.annotation.page.render import audio_data_uri, render_annotation_page

__all__ = ["audio_data_uri", "render_annotation_page"]
