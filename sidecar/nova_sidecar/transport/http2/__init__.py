"""HTTP/2 connections on both sides: frames in, frames out, windows kept exactly, streams handed to the pipeline."""
