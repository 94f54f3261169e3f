"""The topics of scrapesaga: their declaration, and how they are created on a broker."""
