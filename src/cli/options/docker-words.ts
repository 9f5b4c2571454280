/** Words of Docker's command line that tsvm does not have, each with today's way to do it. */

/** Commands. */
const COMMANDS: Readonly<Record<string, string>> = {
  image:
    'the commands of images have no word before them: tsvm images, tsvm pull debian:12, tsvm rmi debian:12',
  push: 'tsvm save debian:12 -o debian.tar && skopeo copy oci-archive:debian.tar docker://REGISTRY/NAME',
  login: 'tsvm takes the credentials of podman and docker: podman login REGISTRY',
  logout: 'tsvm takes the credentials of podman and docker: podman logout REGISTRY',
  search: 'skopeo list-tags docker://debian lists the tags of an image',
  build:
    'make an OCI layout with another tool: buildah build --tag oci:app:latest .; the default guest: tsvm guest build',
  import: 'an archive of a root is an image as it is: tsvm run --image root.tar -- COMMAND',
  export: 'a machine is saved by tsvm snapshot DIR --machine NAME',
  commit: 'a machine is saved by tsvm snapshot DIR --machine NAME, and goes on by tsvm restore DIR',
  create: 'tsvm run -d --name NAME -- COMMAND makes and starts one',
  list: 'tsvm ps lists machines',
  unpause: 'tsvm resume NAME',
  info: 'tsvm doctor says what this host can do',
  version: 'tsvm --version',
  events: 'tsvm top watches machines',
  network: 'a network is an option of a machine: --net user,hostfwd=tcp:127.0.0.1:8080-:80',
  volume: 'a folder of the host is an option of a machine: --share DIR:TAG',
  compose: 'each machine is a command: tsvm run -d --name NAME -- COMMAND',
};

/** Options of commands that run something. */
const OPTIONS: Readonly<Record<string, string>> = {
  '-p': '--net user,hostfwd=tcp:127.0.0.1:8080-:80 leads a port of the host into a machine',
  '-v': '--share DIR:TAG, and in the guest: mount -t virtiofs TAG /mnt; a container: tsvm container run --volume DIR:PATH',
  '-c': 'a command comes after --: -- sh -c SCRIPT',
  '--network': '--net user',
  '--share': '--host-namespace NAME stays in one of the host’s; a folder: --volume DIR:PATH',
  '--platform': 'images are for linux/amd64',
  '--restart': 'tsvm wait NAME says when a machine has ended; a service of the host’s can start it again',
  '--init': 'process 1 is tsvm’s own init in any case',
  '--pids-limit': '--pids N, with --isolation container',
};

/** Options that are done in the way of another one. */
const SAME: Readonly<Record<string, string>> = {
  '--publish': '-p',
  '-P': '-p',
  '--publish-all': '-p',
  '--volume': '-v',
  '--mount': '-v',
  '--tmpfs': '-v',
};

const entryOf = (table: Readonly<Record<string, string>>, word: string): string | undefined =>
  Object.hasOwn(table, word) ? table[word] : undefined;

/** Way to do a command of Docker's; undefined for any other word. */
export function insteadOfCommand(word: string): string | undefined {
  return entryOf(COMMANDS, word);
}

/** Way to do what an option of Docker's does; `typed` may have its value (`-p8080:80`, `--publish=8080:80`); undefined for any other. */
export function insteadOfOption(typed: string): string | undefined {
  const name = typed.startsWith('--') ? typed.replace(/=.*$/s, '') : typed.slice(0, 2);
  return entryOf(OPTIONS, entryOf(SAME, name) ?? name);
}
