"""The report as one HTML file: what it shows, worked out here, and the assets that show it."""
