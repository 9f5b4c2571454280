/** Hypervisors that a host may itself be a guest of, and how each is asked for nested virtualization. */
import type { KvmFacts } from './facts.js';

interface Hypervisor {
  readonly name: string;
  /** Expressions for the firmware's strings, by their names in /sys/class/dmi/id. */
  readonly strings: Readonly<Record<string, RegExp>>;
  readonly remedy: string;
}

const DEFAULT: Hypervisor = {
  name: 'a hypervisor',
  strings: {},
  remedy: 'ask whoever runs the hypervisor for nested virtualization, or use a host without one',
};

/** Hypervisors in the order in which they are tried: a cloud before the hypervisor that it is made of. */
const HYPERVISORS: readonly Hypervisor[] = [
  {
    name: 'Amazon EC2',
    strings: { sys_vendor: /^Amazon EC2/ },
    remedy: 'choose an instance type of bare metal (*.metal)',
  },
  {
    name: 'Google Compute Engine',
    strings: { product_name: /^Google Compute Engine/ },
    remedy: 'make the machine anew: gcloud compute instances create NAME --enable-nested-virtualization',
  },
  {
    name: 'Azure',
    // The same for every machine of Azure's, by which cloud-init knows them too.
    strings: { chassis_asset_tag: /^7783-7084-3265-9085-8269-3286-77$/ },
    remedy: 'choose a size with nested virtualization: az vm resize --size Standard_D4s_v5',
  },
  {
    name: 'Hyper-V',
    strings: { sys_vendor: /^Microsoft Corporation/, product_name: /^Virtual Machine/ },
    remedy:
      'on its host, with the machine off: Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true',
  },
  {
    name: 'VMware',
    strings: { sys_vendor: /^VMware/ },
    remedy: 'on its host, with the machine off, put vhv.enable = "TRUE" into its .vmx file',
  },
  {
    name: 'VirtualBox',
    strings: { product_name: /^VirtualBox/ },
    remedy: 'on its host, with the machine off: VBoxManage modifyvm NAME --nested-hw-virt on',
  },
  {
    name: 'Parallels',
    strings: { sys_vendor: /^Parallels/ },
    remedy: 'on its host, with the machine off: prlctl set NAME --nested-virt on',
  },
  {
    name: 'Xen',
    strings: { sys_vendor: /^Xen/ },
    remedy: 'on its host, put nestedhvm = 1 into its configuration',
  },
  {
    name: 'Hetzner Cloud',
    strings: { sys_vendor: /^Hetzner/, product_name: /^vServer/ },
    remedy: 'use a dedicated server: this cloud has no nested virtualization',
  },
  {
    name: 'QEMU',
    strings: { sys_vendor: /^QEMU/ },
    remedy:
      'on its host, give it the host’s CPU: qemu -cpu host, or <cpu mode="host-passthrough"/> of libvirt',
  },
];

/** Hypervisor below this host by its firmware's strings. */
export function hypervisorOf({ firmware }: Pick<KvmFacts, 'firmware'>): Hypervisor {
  return (
    HYPERVISORS.find(({ strings }) =>
      Object.entries(strings).every(([name, expression]) => expression.test(firmware[name] ?? '')),
    ) ?? DEFAULT
  );
}
