/**
 * Where tsvm's shared folders say something else to the checks in calls/ than the folder itself does: the reasons, which are in
 * docs/devices/fs.md too, and what is said instead. A line that is not true any more fails test/boot/share-calls.test.ts: delete it.
 */

export interface Difference {
  readonly why: string;
  /** Set where it is a known fault, which is to be mended, and no decision. */
  readonly fault?: true;
  readonly checks: Readonly<Record<string, string | RegExp>>;
}

/** In place of an answer: the one of QEMU's virtiofsd, which differs from the folder's own. */
export const AS_VIRTIOFSD = 'as virtiofsd';

export const DIFFERENCES: readonly Difference[] = [
  {
    why: 'Nothing that the guest makes is setuid, setgid or sticky on the host, but for sticky folders.',
    fault: true,
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
    why: 'The guest can make no pipes and sockets.',
    fault: true,
    checks: {
      'listing.special_types': 'cannot:mkfifo=EPERM',
      'nodes.bound_socket': 'bind=EPERM cannot:fstatat=ENOENT',
      'nodes.bound_socket_carries': 'bind=EPERM cannot:listen=EBADF',
      'nodes.bound_socket_not_writable': 'bind=EPERM cannot:listen=EBADF',
      'nodes.bound_socket_renamed': 'bind=EPERM cannot:listen=EBADF',
      'nodes.bound_socket_without_listener': 'bind=EPERM connect=ENOENT unlink=ENOENT connect=ENOENT',
      'nodes.fifo': 'mkfifo=EPERM cannot:fstatat=ENOENT',
      'nodes.fifo_carries': 'cannot:mkfifo=EPERM',
      'nodes.fifo_of_user': 'mkfifo=EPERM cannot:fstatat=ENOENT',
      'nodes.fifo_without_reader': 'cannot:mkfifo=EPERM',
      'nodes.socket': 'mknod=EPERM cannot:fstatat=ENOENT',
      'xattr.of_fifo': 'cannot:mkfifo=EPERM',
    },
  },
  {
    why: 'Names, targets of links and names of attributes are UTF-8.',
    fault: true,
    checks: {
      'links.target_of_any_bytes': 'symlink=EILSEQ read=-1 same=0 cut=-1',
      'names.cut_utf8': 'create=EILSEQ',
      'names.every_byte': 'create=EILSEQ',
      'names.not_utf8': 'create=EILSEQ',
      'names.replacement_character': 'other=EILSEQ unlink=EILSEQ',
      'names.surrogate': 'create=EILSEQ',
      'xattr.names':
        'none=EINVAL longest=ok too_long=ERANGE bytes=EILSEQ bytes=-1 without_namespace=EOPNOTSUPP',
    },
  },
  {
    why: 'Times are set to a microsecond, and none before 1970.',
    fault: true,
    checks: {
      'times.after_2038': 'set=ok atime=2147483648.000000000 mtime=4294967295.000000000',
      'times.after_2106': 'set=ok atime=4294967296.000000000 mtime=6000000000.000000000',
      'times.before_1970': /^set=ok atime=\d+/,
      'times.by_descriptor': 'set=ok atime=123456000 mtime=987654000',
      'times.nanoseconds': 'set=ok atime=1234567890.123456000 mtime=1700000001.000000000',
      'times.of_directory_and_link': 'directory=ok link=ok through=ENOENT mtime=987654000,987654000',
      'times.of_unlinked_file': 'set=ok mtime=987654000',
      'times.omit_access': 'set=ok atime=1000000000.000000000 mtime=1700000000.123456000',
      'times.omit_change': 'set=ok atime=1700000000.123456000 mtime=1000000000.000000000',
      'times.one_nanosecond': 'set=ok atime=0.000000000 mtime=1.000000000',
    },
  },
  {
    why: 'A listing has no `.` and `..`, and no inode numbers.',
    fault: true,
    checks: {
      'listing.dots': 'dot=0 dots=0 type=0',
      'listing.inode_of_dot': '',
      'listing.inodes_and_types': 'names=4 inodes=0 types=4',
      'listing.told_places': 'entries=12 right=12',
      'listing.told_places_of_other_descriptor': 'right=4',
    },
  },
  {
    why: 'The guest can make no devices.',
    checks: {
      'nodes.device': 'null=EPERM loop=EPERM',
    },
  },
  {
    why: 'The guest can make no whiteouts.',
    fault: true,
    checks: {
      'nodes.whiteout': 'mknod=EPERM',
      'rename.whiteout': 'rename=EINVAL',
      'rename.whiteout_of_user': 'rename=EINVAL',
    },
  },
  {
    why: 'Holes are not told from data (SEEK_DATA, SEEK_HOLE).',
    fault: true,
    checks: {
      'data.seek_data_and_hole': 'data=0 hole=2097152 hole_after=512 no_more=ok past=ENXIO',
    },
  },
  {
    why: 'O_TMPFILE is refused.',
    fault: true,
    checks: {
      'open.tmpfile': AS_VIRTIOFSD,
      'open.tmpfile_exclusive': AS_VIRTIOFSD,
      'open.tmpfile_linked': AS_VIRTIOFSD,
      'open.tmpfile_linked_by_descriptor': AS_VIRTIOFSD,
      'open.tmpfile_of_user': AS_VIRTIOFSD,
    },
  },
  {
    why: 'A file that is open with O_APPEND is written at its end, also from a mapping.',
    fault: true,
    checks: {
      'open.append_cleared_after_open': AS_VIRTIOFSD,
      'open.append_mapped': AS_VIRTIOFSD,
      'open.append_mapped_and_written': AS_VIRTIOFSD,
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
];
