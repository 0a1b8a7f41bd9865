"""Builds the images from the Dockerfiles that are shipped: with Docker where it answers, else with buildah.

The build itself needs no network. Wheels are collected before, on the machine, for the Python of the base image, and
the Dockerfiles only install them. An image is built again only when something that went into it has changed.
"""
