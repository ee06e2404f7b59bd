"""The root helpers of sockproxy: standard library only, one role a process."""
