/**
 * Directory that keeps what a container changes.
 *
 * The superuser's containers have root's id in it: a setuid program that a container leaves there is one of the host's. So nobody else may
 * come to it, and the directory is looked at by its descriptor, which is what is mounted.
 */
import { type FolderRules, OwnFolder } from '../host/own-folder.js';
import { refuse } from './config.js';

const RULES: FolderRules = {
  code: 'TSVM_CONTAINER',
  what: 'the upper directory',
  hint: 'give a directory of your own: mkdir -m 700 DIR',
  secret: true,
};

/** @throws TsvmError `TSVM_CONTAINER` if it is a link, another user's, or others may enter it. */
export function openUpper(path: string): OwnFolder {
  const folder = OwnFolder.open(path, RULES);
  if (folder === undefined) throw refuse(`upper ${path}: it was removed`, RULES.hint);
  return folder;
}

/**
 * Path that leads to the open directory and nowhere else, for the launcher's plan. A user's mounts are made in a user namespace, from which
 * descriptors of this process are out of reach: there it is the path as it was given, and nothing in it is more than this user's.
 */
export function pathOfUpper(folder: OwnFolder, superuser: boolean): string {
  return superuser ? `/proc/${process.pid}/fd/${folder.fd}` : folder.path;
}
