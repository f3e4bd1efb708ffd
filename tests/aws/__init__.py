"""What tests/aws/acceptance is made of: a try on the real EC2, for somebody with an AWS account."""
