"""Traffic that never was: places, those who move there, and what a tracker makes of them."""
