"""Reserve IP addresses for named Pods and VMs in OVN's northbound database."""

__version__ = "0.1.0"
