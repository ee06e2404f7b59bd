"""Log in to sockproxy with a password, where the kernel can't tell people apart; keep a token in docker's config."""
