"""What measurements share: rows and their report, the machine's facts and rates, programs in processes of their own."""
