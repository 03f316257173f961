"""Will this flight from New York arrive 15 minutes late or more? Asked two hours before it should leave."""
