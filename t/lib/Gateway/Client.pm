package Gateway::Client;

# An HTTP/1 client that sends exactly what it is told, over a socket that
# never blocks for longer than its deadline.  A request may be sent now and
# its response read later, so hundreds can be under way at once.
#
# See "Requests" in Gateway.pm.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use Exporter qw(import);
use Gateway::Secrets qw(learn_request learn_response);
use IO::Socket::INET ();
use Mojo::JSON qw(encode_json);
use Socket qw(SOL_SOCKET SO_LINGER TCP_NODELAY IPPROTO_TCP);
use Time::HiRes qw(time);

our @EXPORT_OK = qw($PATIENCE);

# What every wait takes longer at most, as under valgrind all does.
our $PATIENCE = $ENV{QUICKBLOX_VALGRIND} ? 10 : 1;

# Options: host, port, ssl => 1 (with ca, sni, and whatever else
# IO::Socket::SSL takes in ssl_options), timeout, control => 1 (what is said is
# the test's own).
sub new ($class, %opt) {
    my $self = bless {
        host => '127.0.0.1',
        timeout => 10,
        %opt,
        in => '',
        out => '',
    }, $class;

    my $socket = IO::Socket::INET->new(
        PeerAddr => $self->{host},
        PeerPort => $self->{port},
        Timeout => $PATIENCE * $self->{timeout},
    );

    if (!$socket) {
        $self->{error} = "connect: $@";
        return $self;
    }

    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

    if ($self->{ssl}) {
        require IO::Socket::SSL;
        my $name = $self->{sni} // 'localhost';
        IO::Socket::SSL->start_SSL($socket,
            SSL_hostname => $name,
            SSL_verifycn_name => $name,
            SSL_verifycn_scheme => 'http',
            ($self->{ca} ? (SSL_ca_file => $self->{ca})
                : (SSL_verify_mode => 0)),
            Timeout => $PATIENCE * $self->{timeout},
            %{$self->{ssl_options} // {}},
        ) or do {
            $self->{error} = 'tls: ' . IO::Socket::SSL::errstr();
            return $self;
        };
    }

    $socket->blocking(0);
    $self->{socket} = $socket;

    return $self;
}

# The bytes of a request.
sub format ($self, %req) {
    my $headers = $req{headers} // [];
    $headers = [map { [$_, $headers->{$_}] } sort keys %$headers]
        if ref $headers eq 'HASH';

    my $method = $req{method} // (defined $req{body} ? 'POST' : 'GET');
    my $version = $req{version} // '1.1';
    my $body = $req{body} // '';

    my @headers = @$headers;
    my $has = sub ($name) { grep { lc $_->[0] eq $name } @headers };

    unshift @headers, ['Host', $req{host} // 'localhost']
        if !$has->('host') && $version ne '0.9';

    push @headers, ['QB-Token', $req{token}] if defined $req{token};

    if (defined $req{json}) {
        $method = $req{method} // 'POST';
        $body = encode_json($req{json});
        push @headers, ['Content-Type', 'application/json']
            if !$has->('content-type');
    }

    learn_request(\@headers, $body) if !ref $self || !$self->{control};

    if ($req{chunked}) {
        push @headers, ['Transfer-Encoding', 'chunked'];
        my $size = $req{chunked} > 1 ? $req{chunked} : 65536;
        $body = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
            unpack "(a$size)*", $body;
        $body .= "0\r\n\r\n";

    } elsif ((length $body || $method =~ /^(?:POST|PUT|PATCH)$/)
        && !$has->('content-length') && !$has->('transfer-encoding'))
    {
        push @headers, ['Content-Length', length $body];
    }

    push @headers, ['Connection', 'close']
        if !$req{keepalive} && !$has->('connection') && $version eq '1.1';

    return join '', join("\r\n", "$method $req{path} HTTP/$version",
        (map { "$_->[0]: $_->[1]" } @headers), '', ''), $body;
}

# Sends now, to be finished later.  Returns the client itself.
sub start ($self, %req) {
    $req{method} //= defined $req{body} || defined $req{json}
        ? 'POST' : 'GET';
    $req{path} //= '/';
    $self->{head} = $req{method} eq 'HEAD';
    $self->send($req{raw} // $self->format(%req));

    return $self;
}

# As many bytes as the socket takes; the rest goes out in finish().
sub send ($self, $bytes) {
    $self->{out} .= $bytes;
    $self->_push;

    return $self;
}

sub _push ($self) {
    local $SIG{PIPE} = 'IGNORE';

    while (length $self->{out} && !$self->{error}) {
        my $n = syswrite $self->{socket}, $self->{out};

        if (defined $n) {
            substr $self->{out}, 0, $n, '';
            next;
        }

        last if $!{EAGAIN} || $!{EWOULDBLOCK} || $!{EINTR};

        # The response may have come all the same.
        $self->{out} = '';
        $self->{broken} = "$!";
    }

    return;
}

# Reads once: true if bytes came, false at the end or at the deadline.
sub _pull ($self, $deadline) {
    return if $self->{error} || $self->{eof};

    while (1) {
        $self->_push;

        my $n = sysread $self->{socket}, $self->{in}, 65536,
            length $self->{in};

        # An endless answer must not outlast the deadline.
        if ($n && time > $deadline) {
            $self->{late} = 1;
            return;
        }

        return 1 if $n;

        if (defined $n) {
            $self->{eof} = 1;
            return;
        }

        if (!$!{EAGAIN} && !$!{EWOULDBLOCK} && !$!{EINTR}) {
            $self->{eof} = 1;
            $self->{reset} = "$!";
            return;
        }

        my $left = $deadline - time;
        if ($left <= 0) {
            $self->{late} = 1;
            return;
        }

        my $read = '';
        vec($read, fileno $self->{socket}, 1) = 1;
        my $write = length $self->{out} ? $read : undef;
        select $read, $write, undef, $left;
    }
}

sub finish ($self, $timeout = undef) {
    my $deadline = time + $PATIENCE * ($timeout // $self->{timeout});
    my $res = Gateway::Response->new;
    my @interim;

    while (1) {
        $self->_head($res, $deadline) or return $self->_fail($res);
        last if $res->{status} >= 200 || $res->{status} == 101;

        push @interim, $res;
        $res = Gateway::Response->new;
    }

    $res->{interim} = \@interim;

    my $whole = $self->_body($res, $deadline);
    learn_response($res->{headers}, $res->{raw}) if !$self->{control};
    return $self->_fail($res) if !$whole;

    $res->{complete} = 1;

    return $res;
}

sub _fail ($self, $res) {
    $res->{error} = $self->{error}
        // ($self->{late} ? 'timeout'
            : $self->{reset} ? "reset: $self->{reset}" : 'closed');
    $res->{raw} .= $self->{in} if !defined $res->{status};

    return $res;
}

sub _head ($self, $res, $deadline) {
    my $end;

    while (($end = index $self->{in}, "\r\n\r\n") < 0) {
        $self->_pull($deadline) or return;
    }

    my $head = substr $self->{in}, 0, $end + 4, '';
    my ($line, @lines) = split /\r\n/, $head;

    $res->{raw} .= $head;

    ($res->{version}, $res->{status}, $res->{reason})
        = $line =~ m{^HTTP/(\S+) (\d+) ?(.*)} or do {
            $self->{error} = "not a status line: $line";
            return;
        };

    $res->{headers} = [
        map { /^([^:]*):\s*(.*)$/s ? [$1, $2] : ['', $_] } @lines
    ];

    return 1;
}

sub _body ($self, $res, $deadline) {
    my $status = $res->{status};
    my $length = $res->header('content-length');

    return 1 if $self->{head} || $status < 200 || $status == 204
        || $status == 304;

    if (lc($res->header('transfer-encoding') // '') eq 'chunked') {
        return $self->_chunks($res, $deadline);
    }

    if (defined $length) {
        while (length $self->{in} < $length) {
            $self->_pull($deadline) or last;
        }

        $res->{body} = substr $self->{in}, 0, $length, '';
        $res->{raw} .= $res->{body};

        return length $res->{body} == $length;
    }

    1 while $self->_pull($deadline);

    $res->{body} = $self->{in};
    $res->{raw} .= $self->{in};
    $self->{in} = '';

    return $self->{eof} && !$self->{reset};
}

sub _line ($self, $res, $deadline) {
    my $end;

    while (($end = index $self->{in}, "\r\n") < 0) {
        $self->_pull($deadline) or return;
    }

    my $line = substr $self->{in}, 0, $end + 2, '';
    $res->{raw} .= $line;

    return substr $line, 0, -2;
}

sub _chunks ($self, $res, $deadline) {
    while (1) {
        my $line = $self->_line($res, $deadline) // return;
        $line =~ /^([0-9a-fA-F]+)/ or return;
        my $size = hex $1;

        if (!$size) {
            while (length($line = $self->_line($res, $deadline) // return)) {
                push @{$res->{trailers}}, [split /:\s*/, $line, 2];
            }
            return 1;
        }

        while (length $self->{in} < $size + 2) {
            if (!$self->_pull($deadline)) {
                $res->{body} .= substr $self->{in}, 0, $size;
                return;
            }
        }

        my $chunk = substr $self->{in}, 0, $size + 2, '';
        $res->{raw} .= $chunk;
        push @{$res->{chunks}}, substr $chunk, 0, -2;
        $res->{body} .= substr $chunk, 0, -2;
    }
}

# One request after the other on this connection.
sub request ($self, %req) {
    $self->start(keepalive => 1, %req);
    return $self->finish($req{timeout});
}

sub get ($self, $path, %req) {
    return $self->request(method => 'GET', path => $path, %req);
}

sub post ($self, $path, $body = '', %req) {
    return $self->request(method => 'POST', path => $path, body => $body,
        %req);
}

# Bytes until the pattern has been read, the end, or the deadline.
sub read_until ($self, $pattern, $timeout = undef) {
    my $deadline = time + $PATIENCE * ($timeout // $self->{timeout});

    while ($self->{in} !~ $pattern) {
        $self->_pull($deadline) or last;
    }

    my $bytes = $self->{in};
    $self->{in} = '';

    return $bytes;
}

# All bytes until the end.
sub read_all ($self, $timeout = undef) {
    my $deadline = time + $PATIENCE * ($timeout // $self->{timeout});

    1 while $self->_pull($deadline);

    my $bytes = $self->{in};
    $self->{in} = '';

    return $bytes;
}

# True once the other side has closed.
sub closed ($self, $timeout = undef) {
    my $deadline = time + $PATIENCE * ($timeout // $self->{timeout});

    1 while $self->_pull($deadline);

    return $self->{eof} ? 1 : 0;
}

sub close ($self) {
    my $socket = delete $self->{socket};
    $self->{error} //= 'closed by the test';
    close $socket if $socket;

    return;
}

# Goes away with RST.
sub abort ($self) {
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0
        if $self->{socket};
    $self->close;

    return;
}

package Gateway::Response;

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Mojo::JSON qw(decode_json);

sub new ($class, %res) {
    return bless {
        status => undef,
        headers => [],
        body => '',
        raw => '',
        trailers => [],
        chunks => [],
        interim => [],
        complete => 0,
        %res,
    }, $class;
}

# 0 where none came.
sub status ($self) { return $self->{status} // 0 }
sub reason ($self) { return $self->{reason} }
sub version ($self) { return $self->{version} }
sub body ($self) { return $self->{body} }
sub raw ($self) { return $self->{raw} }
sub complete ($self) { return $self->{complete} }
sub error ($self) { return $self->{error} }
sub trailers ($self) { return $self->{trailers} }
sub chunks ($self) { return $self->{chunks} }
sub interim ($self) { return $self->{interim} }
sub pairs ($self) { return $self->{headers} }

# The first value of a header.
sub header ($self, $name) {
    return ($self->headers($name))[0];
}

# All values of a header; without a name the list of pairs.
sub headers ($self, $name = undef) {
    return @{$self->{headers}} if !defined $name;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{$self->{headers}};
}

# Undefined if the body is no JSON.
sub json ($self) {
    return eval { decode_json($self->{body}) };
}

1;
