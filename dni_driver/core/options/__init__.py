# SPDX-License-Identifier: Apache-2.0
"""What users may ask of a network, an endpoint or a container, by options and labels."""
