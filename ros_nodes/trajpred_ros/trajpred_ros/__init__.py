"""trajpred as ROS 2 nodes: prediction, log replay, and a planner that yields."""
