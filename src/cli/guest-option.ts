/** `--guest`: which of the built guests a machine is made of. */
import { Option } from 'commander';
import {
  DEBIAN_GUEST,
  DEFAULT_GUEST,
  debianGuestProblem,
  findGuest,
  type Guest,
} from '../host/guest-store.js';

export const guestOption = (): Option =>
  new Option(
    '--guest <name>',
    'a guest that `tsvm guest build` made: default, or debian for Debian’s own kernel',
  ).conflicts('kernel');

/** Finds the guest that is named, or else the default one; says in one line what is not as expected of it. */
export async function cliGuest(name: string | undefined): Promise<Guest> {
  const guest = await findGuest(name);
  const remark = guest.build.name === DEBIAN_GUEST ? remarkOnDebian(name) : undefined;
  if (remark !== undefined) process.stderr.write(`tsvm: ${remark}\n`);
  return guest;
}

function remarkOnDebian(name: string | undefined): string | undefined {
  if (name === undefined)
    return `the ${DEFAULT_GUEST} guest is not built: taking Debian’s kernel, which boots more slowly (tsvm guest build)`;
  const problem = debianGuestProblem();
  return problem === undefined ? undefined : `${problem}; leave out --guest for the ${DEFAULT_GUEST} one`;
}
