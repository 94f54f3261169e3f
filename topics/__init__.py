"""The topics that scrapesaga lives on: what they are, and how they get onto a broker."""
