package Gateway::H2;

# An HTTP/2 client that does no more than a test needs: frames as they are
# told, many streams at once, which may be reset or left unfinished, and of a
# response its status and its body.
#
#     my $h2 = Gateway::H2->new(port => $t->port(1));
#     my $id = $h2->start(path => '/', token => $token);
#     my $res = $h2->finish($id);    # {status, body, reset, end}
#
# Options of start: method, path, headers (pairs), token, body (of 64k at
# most), end => 0 (more of it is to come), cut => 1 (not even the head is
# whole).  A response without "end" has not ended.  Else as Gateway::Client:
# send, closed, close, abort.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use parent 'Gateway::Client';

use Time::HiRes qw(time);

use constant {
    DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6,
    WINDOW_UPDATE => 8,
    END_STREAM => 1, ACK => 1, END_HEADERS => 4,
    CANCEL => 8,
};

# The :status that nginx has an index for, in HPACK's static table.
my %STATUS = (8 => 200, 9 => 204, 10 => 206, 11 => 304, 12 => 400, 13 => 404,
    14 => 500);

sub new ($class, %opt) {
    my $self = $class->SUPER::new(%opt);
    return $self if $self->{error};

    @$self{qw(next streams open)} = (1, {}, 0);

    # No pushes; windows that need no update for two gigabytes.
    $self->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . _frame(SETTINGS, 0, 0, pack 'nN nN', 2, 0, 4, 0x7fffffff)
        . _frame(WINDOW_UPDATE, 0, 0, pack 'N', 0x7fffffff - 65535));

    return $self;
}

sub _frame ($type, $flags, $id, $payload) {
    return substr(pack('N', length $payload), 1)
        . pack('CCN', $type, $flags, $id) . $payload;
}

# A string of HPACK, not compressed.
sub _string ($text) {
    my $length = length $text;
    return pack('C', $length) . $text if $length < 127;

    my $bytes = pack 'C', 127;
    $length -= 127;

    while ($length > 127) {
        $bytes .= pack 'C', 128 | $length & 127;
        $length >>= 7;
    }

    return $bytes . pack('C', $length) . $text;
}

sub start ($self, %req) {
    my $id = $self->{next};
    $self->{next} += 2;

    my $body = $req{body};
    my @headers = (
        [':method', $req{method} // (defined $body ? 'POST' : 'GET')],
        [':scheme', 'http'],
        [':authority', 'localhost'],
        [':path', $req{path}],
        defined $req{token} ? ['qb-token', $req{token}] : (),
        map { [lc $_->[0], $_->[1]] } @{$req{headers} // []},
    );

    # Literal, never indexed.
    my $block = join '', map { "\x10" . join '', map { _string($_) } @$_ }
        @headers;
    my $last = $req{end} // 1 ? END_STREAM : 0;

    if ($req{cut}) {
        $self->send(substr _frame(HEADERS, END_STREAM, $id, $block), 0, 40);
        return $id;
    }

    $self->{streams}{$id} = {status => 0, body => ''};
    $self->{open}++;
    $self->send(_frame(HEADERS,
        END_HEADERS | (length $body // '' ? 0 : $last), $id, $block));

    # A frame has 16k at most.
    my @data = unpack '(a16384)*', $body // '';
    while (defined(my $data = shift @data)) {
        $self->send(_frame(DATA, @data ? 0 : $last, $id, $data));
    }

    return $id;
}

sub reset ($self, $id) {
    $self->_ended($id);
    return $self->send(_frame(RST_STREAM, 0, $id, pack 'N', CANCEL));
}

sub _ended ($self, $id) {
    my $stream = $self->{streams}{$id} or return;

    $self->{open}-- if !$stream->{end}++;

    return;
}

# The response, once its stream has ended.
sub finish ($self, $id, $timeout = undef) {
    my $stream = $self->{streams}{$id};

    $self->_until(sub { $stream->{end} }, $timeout);

    return delete $self->{streams}{$id};
}

# The responses of all streams.
sub finish_all ($self, $timeout = undef) {
    $self->_until(sub { !$self->{open} }, $timeout);

    my $streams = $self->{streams};
    $self->{streams} = {};

    return map { $streams->{$_} } sort { $a <=> $b } keys %$streams;
}

sub _until ($self, $condition, $timeout = undef) {
    my $deadline = time + ($timeout // $self->{timeout});

    $self->_frames;

    while (!$condition->()) {
        $self->_pull($deadline) or return 0;
        $self->_frames;
    }

    return 1;
}

# Takes the frames that have come.
sub _frames ($self) {
    my $at = 0;

    while (length($self->{in}) - $at >= 9) {
        my ($high, $low, $type, $flags, $id)
            = unpack 'CnCCN', substr $self->{in}, $at, 9;
        my $length = $high << 16 | $low;

        last if length($self->{in}) - $at < 9 + $length;

        my $payload = substr $self->{in}, $at + 9, $length;
        $at += 9 + $length;

        $self->_take($type, $flags, $id, $payload);
    }

    substr $self->{in}, 0, $at, '';

    return;
}

sub _take ($self, $type, $flags, $id, $payload) {
    if ($type == SETTINGS || $type == PING) {
        $self->send(_frame($type, ACK, 0, $type == PING ? $payload : ''))
            if !($flags & ACK);
        return;
    }

    my $stream = $self->{streams}{$id} or return;

    if ($type == DATA) {
        $stream->{body} .= $payload;

    } elsif ($type == HEADERS && !$stream->{status}) {

        # The status comes first, after the size of the table, if at all.
        $payload =~ s/^[\x20-\x3f]//;
        my $first = ord $payload;
        $stream->{status} = $first & 0x80 ? $STATUS{$first & 0x7f} // -1
            : substr $payload, 2, 3;

    } elsif ($type == RST_STREAM) {
        $stream->{reset} = unpack 'N', $payload;
        $self->_ended($id);
        return;
    }

    $self->_ended($id)
        if ($type == DATA || $type == HEADERS) && $flags & END_STREAM;

    return;
}

1;
