# What fence_aws_vpc_net needs in one VPC: the isolation group, the group for untrack_secg, the policy of
# ../iam-policy.json with a role and an instance profile, and an interface endpoint for the EC2 API.
#
#   module "fencing" {
#     source              = "./fence_aws_vpc_net/doc/terraform"
#     vpc_id              = "vpc-0123456789abcdef0"
#     endpoint_subnet_ids = ["subnet-0123456789abcdef0"]
#   }
#
# Nodes that Terraform manages too need ignore_changes for their groups and tags: see the guide.

terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 4.0"
    }
  }
}

variable "vpc_id" {
  description = "The VPC of the nodes. For nodes in several VPCs, use the module once for each"
  type        = string
}

variable "name" {
  description = "What the names of all that is made begin with"
  type        = string
  default     = "fence"
}

variable "endpoint_subnet_ids" {
  description = "A subnet in each Availability Zone of the nodes, for the endpoint. Empty: no endpoint is made"
  type        = list(string)
  default     = []
}

data "aws_partition" "this" {}

data "aws_vpc" "this" {
  id = var.vpc_id
}

data "aws_vpc_endpoint_service" "ec2" {
  service      = "ec2"
  service_type = "Interface"
}

# Empty lists, not left out: so Terraform also removes a rule that somebody adds later.
resource "aws_security_group" "isolation" {
  name        = "${var.name}-isolation"
  description = "No rules: what a fenced node is left with"
  vpc_id      = var.vpc_id
  ingress     = []
  egress      = []
}

resource "aws_security_group" "untrack" {
  name        = "${var.name}-untrack"
  description = "Allows everything: passed through while a node is fenced"
  vpc_id      = var.vpc_id

  ingress {
    from_port        = 0
    to_port          = 0
    protocol         = "-1"
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }

  egress {
    from_port        = 0
    to_port          = 0
    protocol         = "-1"
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
}

resource "aws_iam_policy" "fencing" {
  name_prefix = "${var.name}-"
  description = "The least that fence_aws_vpc_net needs"
  policy      = replace(file("${path.module}/../iam-policy.json"), "arn:aws:", "arn:${data.aws_partition.this.partition}:")
}

resource "aws_iam_role" "node" {
  name_prefix = "${var.name}-"
  description = "For the nodes of a cluster that is fenced by fence_aws_vpc_net"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Principal = { Service = "ec2.amazonaws.com" }
        Action    = "sts:AssumeRole"
      }
    ]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  role       = aws_iam_role.node.name
  policy_arn = aws_iam_policy.fencing.arn
}

resource "aws_iam_instance_profile" "node" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.node.name
}

resource "aws_security_group" "endpoint" {
  count       = length(var.endpoint_subnet_ids) > 0 ? 1 : 0
  name        = "${var.name}-endpoint"
  description = "HTTPS from the VPC to the endpoint of the EC2 API"
  vpc_id      = var.vpc_id

  ingress {
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = [data.aws_vpc.this.cidr_block]
  }
}

resource "aws_vpc_endpoint" "ec2" {
  count               = length(var.endpoint_subnet_ids) > 0 ? 1 : 0
  vpc_id              = var.vpc_id
  vpc_endpoint_type   = "Interface"
  service_name        = data.aws_vpc_endpoint_service.ec2.service_name
  subnet_ids          = var.endpoint_subnet_ids
  security_group_ids  = aws_security_group.endpoint[*].id
  private_dns_enabled = true
}

output "device_options" {
  description = "Options of the device"
  value       = "secg=${aws_security_group.isolation.id} invert_sg_removal=1 untrack_secg=${aws_security_group.untrack.id}"
}

output "policy_arn" {
  description = "To be attached to a role that the nodes have already"
  value       = aws_iam_policy.fencing.arn
}

output "instance_profile" {
  description = "For the nodes, if they have none"
  value       = aws_iam_instance_profile.node.name
}
