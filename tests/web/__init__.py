"""The pages as a browser shows them: the real server, and Chromium where there is one."""
