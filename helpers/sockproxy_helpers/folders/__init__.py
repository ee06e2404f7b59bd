"""Folders of the host in containers: the resolver, the attacher, and what the helpers know of binds."""
