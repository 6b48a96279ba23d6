# SPDX-License-Identifier: Apache-2.0
"""A Docker network and IPAM driver: every container its own address, Docker and Mesos on one overlay."""

__version__ = "0.1.0"
