"""What a region is and costs, for all passes that ask: its reads, its axes, the forms that it can take, its price."""
