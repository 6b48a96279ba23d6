# SPDX-License-Identifier: Apache-2.0
"""What dni shares with Mesos and DC/OS: their JSON, and the addresses that their containers have."""
