"""Support for the tests: engines, unix users, a running sockproxy."""
