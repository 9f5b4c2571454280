/** Checks of the default guest, and of what builds it. */
import { findGuest } from '../../host/guest-store.js';
import { packageFile } from '../../util/package-file.js';
import { type Check, has, lacks, type Need, type Verdict } from './check.js';
import { failed } from './machine-checks.js';

const DPKG = 'var/lib/dpkg/info';

export async function checkDefaultGuest(): Promise<Check> {
  try {
    const { version, directory } = (await findGuest()).build;
    return { area: 'guest', name: 'default guest', ...has(`Linux ${version}, ${directory}`) };
  } catch (error) {
    return { ...failed('default guest', error), area: 'guest', status: 'note' };
  }
}

/** Need of `tsvm guest build`, by the Debian packages that its recipe names. */
export const GUEST_TOOLS: Need = {
  area: 'guest',
  name: 'guest tools',
  examine({ files }): Verdict {
    const packages = (files.text(packageFile('guests/packages.txt')) ?? '')
      .split('\n')
      .map((line) => line.replace(/#.*/, '').trim())
      .filter((name) => name !== '');
    if (files.stats(DPKG) === undefined)
      return lacks(`not a Debian host: building a guest needs ${packages.join(', ')} or their like`);
    const missing = packages.filter((name) =>
      [`${name}.list`, `${name}:amd64.list`].every((list) => files.stats(`${DPKG}/${list}`) === undefined),
    );
    return missing.length === 0
      ? has('everything to build a guest is installed')
      : lacks(
          `not installed: ${missing.join(', ')}: no tsvm guest build of the default guest`,
          `apt-get install ${missing.join(' ')}`,
        );
  },
};
