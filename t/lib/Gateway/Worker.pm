package Gateway::Worker;

# What a process of nginx holds at the moment.  To be started with env =>
# Gateway::Worker::env(), which preloads t/preload/heap.c.
#
#     my $before = Gateway::Worker->new($pid)->holds;
#
# {
#   descriptors  open
#   connections  free ones of worker_connections
#   pages        free ones of each shared zone, "31 240"
#   heap         bytes of malloc(), 0 under a sanitizer
#   private      bytes of memory that it shares with nobody
# }

use strict;
use warnings;
use feature 'signatures';
no warnings qw(experimental::signatures portable);

use Carp qw(croak);

my $units = $ENV{QUICKBLOX_UNITS} // 'build/unit';
my $library = "$units/heap.so";

# Valgrind has a malloc() of its own.
sub available { return -e $library && !$ENV{QUICKBLOX_VALGRIND} }

# It needs ngx_cycle, which "nm" shows to be exported where nginx has been
# built to load modules.
sub env {
    return {LD_PRELOAD => join ' ', $ENV{NGINX_PRELOAD} || (), $library};
}

sub new ($class, $pid) {
    my $self = bless {pid => $pid}, $class;

    open $self->{memory}, '<:raw', "/proc/$pid/mem"
        or croak "/proc/$pid/mem: $!";

    my ($base) = map { $_->[0] } grep { $_->[2] =~ /\Q$library\E$/ }
        $self->_maps;
    my ($symbol) = `nm -D $library` =~ /^(\w+) D heap$/m;
    $self->{heap} = ($base // croak "$pid has not loaded $library")
        + hex $symbol;

    return $self;
}

# [from, to, what it is]
sub _maps ($self) {
    open my $file, '<', "/proc/$self->{pid}/maps" or croak "maps: $!";

    return map {
        /^(\w+)-(\w+) \S+ \S+ \S+ \S+ *(.*)/ ? [hex $1, hex $2, $3] : ()
    } <$file>;
}

sub _read ($self, $address, $count) {
    sysseek $self->{memory}, $address, 0;
    my $n = sysread $self->{memory}, my $bytes, 8 * $count;

    croak "nothing to read at $address of $self->{pid}"
        if !defined $n || $n != 8 * $count;

    return unpack 'Q*', $bytes;
}

sub holds ($self) {
    my ($heap, $cycle, $connections, $pages) = $self->_read($self->{heap}, 4);

    ($cycle) = $self->_read($cycle, 1);
    ($connections) = $self->_read($cycle + $connections, 1);

    # A slab pool has its own end as the twelfth word.
    my @zones = grep { ($self->_read($_->[0], 13))[12] == $_->[1] }
        grep { $_->[2] =~ m{^/dev/zero} } $self->_maps;
    my @free = map { $self->_read($_->[0] + $pages, 1) } @zones;

    my $private = 0;
    open my $file, '<', "/proc/$self->{pid}/smaps_rollup" or croak "$!";
    /^Private_\w+: +(\d+)/ and $private += $1 for <$file>;

    my @descriptors = glob "/proc/$self->{pid}/fd/*";

    return {
        descriptors => scalar @descriptors,
        connections => $connections,
        pages => join(' ', @free),
        heap => $heap,
        private => 1024 * $private,
    };
}

1;
