"""A connection to BuildKit: sessions named after their owner, and what its mediator may ask."""
