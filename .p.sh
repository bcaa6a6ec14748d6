d=/sys/class/iommu/dmar0/intel-iommu; for f in $d/*; do echo "$f: $(cat $f)"; done
E=/sys/bus/pci/devices/0000:02:00.0; N=/sys/bus/pci/devices/0000:01:00.0
cat $E/serial_number; cat $E/aer_dev_fatal; cat $E/aer_dev_nonfatal | head -3; ls -la $E/iommu/ ; ls $E/aer $E/link
echo vfio-pci > $E/driver_override; echo 0000:02:00.0 > /sys/bus/pci/drivers_probe; cat $E/power/control $E/power/runtime_status $E/power_state $E/enable; 
echo vfio-pci > $N/driver_override; echo 0000:01:00.0 > /sys/bus/pci/drivers_probe; cat $N/power/control $N/power/runtime_status $N/power_state $N/enable
cat /proc/devices | grep vfio
echo 0000:02:00.0 > /sys/bus/pci/drivers/vfio-pci/unbind;  cat $E/power/control $E/power/runtime_status $E/power_state
ls -l /sys/bus/pci/devices/0000:03:00.0/ /sys/bus/pci/devices/0000:00:1f.2/
for f in /sys/bus/pci/devices/0000:03:00.0/reset* /sys/bus/pci/devices/0000:04:01.0/reset_method; do echo $f; cat $f; done
cat /sys/bus/pci/devices/0000:00:06.0/reset_subordinate; echo 2 > /sys/bus/pci/devices/0000:00:04.0/reset_subordinate; echo x > /sys/bus/pci/devices/0000:00:04.0/reset_subordinate;  echo 1 > /sys/bus/pci/devices/0000:00:04.0/reset_subordinate; echo $?
cat /proc/sys/kernel/tainted; echo junk > /proc/sys/kernel/tainted; echo 4 > /proc/sys/kernel/tainted; cat /proc/sys/kernel/tainted
echo x > /proc/devices; cat /sys/bus/pci/resource_alignment; ls /sys/module | tr '\n' ' '; ls /sys /sys/kernel /sys/bus /sys/dev /sys/dev/char | head -60; ls /proc | tr '\n' ' '
ls /sys/class/pci_bus; 
