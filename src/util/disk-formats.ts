/** Disk formats that are not raw, known by their first bytes. */

export interface DiskFormat {
  /** Name for people. */
  readonly name: string;
  /** Name for `qemu-img convert -f`. */
  readonly qemuName: string;
  readonly offset: number;
  /** Bytes at `offset`, in Latin-1. */
  readonly magic: string;
  /** Extensions of such files. */
  readonly extensions: readonly string[];
}

const QCOW = ['.qcow2', '.qcow'];
const VMDK = ['.vmdk'];
const PARALLELS = ['.hdd', '.hds'];

/** Formats by QEMU's documentation of each (docs/interop/qcow2.txt, block/*.c), in the order in which they are tried. */
export const DISK_FORMATS: readonly DiskFormat[] = [
  { name: 'qcow2', qemuName: 'qcow2', offset: 0, magic: 'QFI\xfb\0\0\0\x02', extensions: QCOW },
  { name: 'qcow2', qemuName: 'qcow2', offset: 0, magic: 'QFI\xfb\0\0\0\x03', extensions: QCOW },
  { name: 'qcow', qemuName: 'qcow', offset: 0, magic: 'QFI\xfb', extensions: QCOW },
  { name: 'qed', qemuName: 'qed', offset: 0, magic: 'QED\0', extensions: ['.qed'] },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: 'KDMV', extensions: VMDK },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: 'COWD', extensions: VMDK },
  { name: 'VMDK', qemuName: 'vmdk', offset: 0, magic: '# Disk DescriptorFile', extensions: VMDK },
  { name: 'VHDX', qemuName: 'vhdx', offset: 0, magic: 'vhdxfile', extensions: ['.vhdx'] },
  { name: 'VHD', qemuName: 'vpc', offset: 0, magic: 'conectix', extensions: ['.vhd'] },
  { name: 'VDI', qemuName: 'vdi', offset: 0x40, magic: '\x7f\x10\xda\xbe', extensions: ['.vdi'] },
  { name: 'Parallels', qemuName: 'parallels', offset: 0, magic: 'WithoutFreeSpace', extensions: PARALLELS },
  { name: 'Parallels', qemuName: 'parallels', offset: 0, magic: 'WithouFreSpacExt', extensions: PARALLELS },
];
