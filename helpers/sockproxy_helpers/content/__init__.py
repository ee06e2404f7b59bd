"""Images and archives: whose a name is, what is somebody's alone, what an upload would set."""
