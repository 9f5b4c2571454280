/**
 * Answers of tsvm's shared folders to the checks in calls/ that are not those of the folder itself: the reasons, which are in
 * docs/devices/fs.md too, and what is said instead. A line that is not true any more fails test/boot/share-calls.test.ts: delete it.
 */

export interface Difference {
  readonly why: string;
  /** Mark of a difference that there is on some file systems of the host's only. */
  readonly mayAgree?: true;
  readonly checks: Readonly<Record<string, string | RegExp>>;
}

/** Placeholder for the answer of QEMU's virtiofsd, which differs from the folder's own. */
export const AS_VIRTIOFSD = 'as virtiofsd';

export const DIFFERENCES: readonly Difference[] = [
  {
    why: 'Nothing that the guest makes is setuid, setgid or sticky on the host, but for sticky folders.',
    checks: {
      'mode.setid': 'chmod=ok mode=100755 sticky=ok mode=100644',
      'mode.setid_of_directory': 'chmod=ok mode=41755',
      'nodes.setid_bits': 'mknod=ok mode=100755',
      'open.create_setid_bits': 'open=ok mode=100755',
      'open.create_sticky_bit': 'open=ok mode=100644',
      'owner.setgid_directory': 'mode=40777 owner=1000:2000 owner=1000:2000 mode=40755 owner=1000:2000',
      'owner.setgid_file_in_setgid_directory': AS_VIRTIOFSD,
      'setid.at_truncate_of_root': 'mode=100777',
      'setid.at_write_of_root': 'mode=100777',
      'setid.chmod_by_one_outside_of_the_group': 'chmod=ok mode=100755 member=ok mode=100755',
      'setid.falls_at_copy_file_range': 'mode=100777 copy=ok mode=100777',
      'setid.falls_at_direct_write': 'mode=100777 write=ok mode=100777',
      'setid.falls_at_fallocate': 'mode=100777 fallocate=ok mode=100777',
      'setid.falls_at_ftruncate': 'mode=100777 mode=100777',
      'setid.falls_at_mapped_write': 'mode=100777 mode=100777',
      'setid.falls_at_open_truncating': 'mode=100777 mode=100777',
      'setid.falls_at_punch': 'mode=100777 fallocate=ok mode=100777',
      'setid.falls_at_truncate': 'mode=100777 mode=100777',
      'setid.falls_at_write': 'mode=100777 mode=100777',
      'setid.group_bit_without_execution': 'mode=100666 mode=100666',
      'setid.made_by_user': 'mode=100755',
      'setid.stays_at_link_rename_and_times': 'mode=100777',
    },
  },
  {
    why: 'The guest can make no devices.',
    checks: {
      'nodes.device': 'null=EPERM loop=EPERM',
    },
  },
  {
    why: 'Other attributes than those of users are EOPNOTSUPP.',
    checks: {
      'xattr.other_namespaces':
        'trusted=EOPNOTSUPP security=EOPNOTSUPP system=EOPNOTSUPP acl=EOPNOTSUPP capability=EOPNOTSUPP',
    },
  },
  {
    why: 'The protocol has no time of birth.',
    checks: {
      'times.of_birth': AS_VIRTIOFSD,
    },
  },
  {
    why: 'A guest’s kernel asks for no other ways of fallocate(2).',
    checks: {
      'allocate.other_modes': AS_VIRTIOFSD,
    },
  },
  {
    why: 'Positions in a folder are those of the host’s file system: on tmpfs before Linux 6.6 they count names, and move when names come.',
    mayAgree: true,
    checks: {
      'listing.while_names_come': /^missing=0 doubles=\d+ others=0$/,
      'listing.while_names_come_and_go': /^missing=\d+ doubles=\d+ others=0$/,
    },
  },
];
