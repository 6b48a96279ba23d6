# SPDX-License-Identifier: Apache-2.0
"""`make bench`: dni beside Docker's own networks, in one run on one lab host. Never a test."""
