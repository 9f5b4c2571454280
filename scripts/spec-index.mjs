/**
 * Index of the specifications that the sources implement, made from their `@spec` tags:
 *
 *   @spec DOCUMENT SECTION  Title  #yes|#partial|#no  [note]
 *
 *   node scripts/spec-index.mjs            writes docs/spec-index.md; a test fails if it is not current
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(import.meta.url);
const REPOSITORY = join(dirname(PROGRAM), '..');

/** Documents that tags name, in the order of the index. */
const DOCUMENTS = {
  'virtio-1.3': 'Virtual I/O Device (VIRTIO) 1.3, OASIS',
  'vm-generation-id': 'Virtual Machine Generation ID, Microsoft, 2012',
  'acpi-6.5': 'Advanced Configuration and Power Interface 6.5, UEFI Forum',
  'mp-1.4': 'MultiProcessor Specification 1.4, Intel',
  'linux-boot': 'The Linux/x86 boot protocol: Documentation/arch/x86/boot.rst and zero-page.rst',
  'linux-initramfs': 'initramfs buffer format: Documentation/driver-api/early-userspace/buffer-format.rst',
  'linux-erofs': 'EROFS: fs/erofs/erofs_fs.h',
  pvh: 'x86/HVM direct boot ABI: docs/misc/pvh.pandoc, Xen',
  elf: 'Executable and Linking Format: elf(5)',
  'rfc-1952': 'GZIP file format 4.3, IETF',
  'rfc-8878': 'Zstandard compression, IETF',
  'kvm-api': 'The KVM API: Documentation/virt/kvm/api.rst',
  'fuse-7.38': 'FUSE 7.38: include/uapi/linux/fuse.h',
  pc16550d: 'PC16550D data sheet, National Semiconductor, June 1995',
  mc146818: 'MC146818 data sheet, Motorola',
  'ibm-ps2': 'Personal System/2 and Personal Computer BIOS: Technical Reference, IBM',
  seabios: 'SeaBIOS: src/hw/serialio.c and src/hw/ps2port.c',
  'tsvm-guest': "tsvm's contract with a guest's init: guests/README.md",
  'firecracker-1.13': 'Firecracker API 1.13: src/firecracker/swagger/firecracker.yaml',
  'oci-image-1.1': 'Image Format Specification 1.1, Open Container Initiative',
  'oci-distribution-1.1': 'Distribution Specification 1.1, Open Container Initiative',
  'distribution-auth': 'Registry authentication: docs/content/spec/auth, distribution',
  'oci-runtime-1.0.2': 'Runtime Specification 1.0.2, Open Container Initiative',
  'posix-2017': 'POSIX.1-2017, IEEE and The Open Group',
};
const TAG = /@spec (\S+) +("[^"]+"|\S+) +(\S.*?) +#(yes|partial|no)(?: +(\S.*))?$/;
const DEVICE = /\bimplements [^{]*\b(?:VirtioDevice|BusDevice)\b/;

/** Tags of a source file; what cannot be read goes to `faults`. */
function tagsOf([file, text], faults) {
  const lines = text
    .split('\n')
    .flatMap((line, i) => (/^\W*@spec\b/.test(line) ? [{ line, at: i + 1 }] : []));
  if (DEVICE.test(text) && lines.length === 0)
    faults.push(`${file}: a device without @spec: which document, which section?`);
  return lines.flatMap(({ line, at }) => {
    const [, document, section, title, state, note = ''] = TAG.exec(line) ?? [];
    if (document === undefined || !(document in DOCUMENTS)) {
      faults.push(
        `${file}:${at}: not "@spec DOCUMENT SECTION  Title  #yes|#partial|#no", or DOCUMENT is unknown`,
      );
      return [];
    }
    return [{ file, document, section: section.replaceAll('"', ''), title, state, note }];
  });
}

const compare = (a, b) =>
  a.section.localeCompare(b.section, 'en', { numeric: true }) ||
  a.title.localeCompare(b.title, 'en') ||
  a.file.localeCompare(b.file, 'en');
/** A tag's text within a cell of a table. */
const cell = (text) => text.replaceAll('|', '\\|').replaceAll('_', '\\_').replaceAll('*', '\\*');

function rowOf({ section, title, state, note, file }) {
  const by = `[${file.replace(/^src\//, '')}](../${file})`;
  return `| ${[cell(section), cell(title), state, by, cell(note)].join(' | ').trimEnd()} |`;
}

/** Page of the tags of `sources`, `[path, text]` each, and what is wrong with them. */
export function specIndex(sources) {
  const faults = [];
  const tags = sources.flatMap((source) => tagsOf(source, faults)).sort(compare);
  const tables = Object.entries(DOCUMENTS).flatMap(([document, title]) => {
    const rows = tags.filter((tag) => tag.document === document).map(rowOf);
    const head = '| section | what | implemented | by | note |\n|---|---|---|---|---|';
    return rows.length === 0 ? [] : [`## ${document}\n\n${title}.\n\n${head}\n${rows.join('\n')}\n`];
  });
  const page = `# Specifications, and the files that implement them

Made by \`npm run spec-index\` from the \`@spec\` tags of the sources: edit those. What a document has and no row names is neither implemented
nor refused by name.

${tables.join('\n')}`;
  return { page, faults };
}

/** Sources of the repository that may have tags. */
export function specSources() {
  return readdirSync(join(REPOSITORY, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
    .map((path) => [`src/${path}`, readFileSync(join(REPOSITORY, 'src', path), 'utf8')]);
}

if (process.argv[1] === PROGRAM) {
  const { page, faults } = specIndex(specSources());
  writeFileSync(join(REPOSITORY, 'docs/spec-index.md'), page);
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) process.exitCode = 1;
}
