"""The post room: one worker that collects the rooms' jobs and makes their rounds."""
