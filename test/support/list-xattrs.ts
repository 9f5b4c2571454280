/** Extended attributes of all files in a directory, by a program that is not ours: Node.js has no call for them. */
import { execFileSync } from 'node:child_process';

/** <asm/unistd_64.h> */
const SYS_LGETXATTR = 192;
const SYS_LLISTXATTR = 195;

const PROGRAM = `
sub list {
  my ($path, $full) = @_;
  my $names = "\\0" x 65536;
  my $length = syscall(${SYS_LLISTXATTR}, $full, $names, 65536);
  for my $name (split /\\0/, substr($names, 0, $length > 0 ? $length : 0)) {
    my $value = "\\0" x 65536; my $n = $name;
    my $size = syscall(${SYS_LGETXATTR}, $full, $n, $value, 65536);
    print join(' ', map { unpack('H*', $_) } $path, $name, substr($value, 0, $size)), "\\n" if $size >= 0;
  }
  return if -l $full || !-d $full;
  opendir(my $folder, $full) or die "$full: $!";
  for (readdir $folder) { list($path eq '.' ? $_ : "$path/$_", "$full/$_") unless /^\\.\\.?$/; }
}
list('.', $ARGV[0]);`;

/** Attributes of users and programs, by path and name, as hexadecimal digits. */
export function listXattrs(directory: string): Record<string, Record<string, string>> {
  const found: Record<string, Record<string, string>> = {};
  const lines = execFileSync('perl', ['-e', PROGRAM, directory], { encoding: 'utf8' }).trim().split('\n');
  const text = (hex = ''): string => Buffer.from(hex, 'hex').toString('latin1');
  for (const [path, name, value = ''] of lines.map((line) => line.split(' '))) {
    if (/^(user\.|security\.capability$)/.test(text(name)))
      found[text(path)] = { ...found[text(path)], [text(name)]: value };
  }
  return found;
}
