package Gateway::Server;

# An HTTP/1 server on Mojo::IOLoop that keeps every request as it came (the
# order, spelling and repetition of its header fields) and can answer in every
# wrong way there is.  The stand-in API and the recording backend are made
# of it.
#
# on_request gets a Gateway::Server::Request and calls
#
#     $req->respond($answer, $how);
#
# $answer: {status, headers => [[name, value], ...], body}, or a function that
# returns one, called when it is time to answer.  $how, all optional:
#
#   status, headers, body   in place of the answer's own; a header replaces the
#                           one of that name, null removes it; "{{token}}" in
#                           a body is the token of the request
#   body_base64             a body of any bytes
#   patch                   merged into a JSON answer
#   delay                   seconds before anything is sent
#   hold                    nothing is sent before release()
#   blackhole               nothing is ever sent
#   raw, keep               base64 bytes in place of an answer, then close,
#                           or with "keep" go on as if it had been one
#   before                  text sent ahead of the answer (a 1xx)
#   reset, cut              RST or FIN at "before", "headers", "body", "last"
#                           (all but one byte), or after so many bytes
#   drip                    bytes per second
#   split                   positions in the body where a write ends, "each"
#                           for single bytes
#   huge                    a body of so many bytes, or "endless"
#   chunked                 the size of the chunks, or "whole" for a single
#                           one; "extension" and trailers => [[name, value]]
#                           go with it
#   gzip                    compress the body
#   length                  the Content-Length to claim
#   no_length               neither length nor chunks: ends with the connection
#   version                 "1.0": an HTTP/1.0 answer
#   pieces, step            body in pieces, each its own write (chunk); with
#                           "step" each waits for a release()
#   upgrade                 101, then every byte is sent back
#   close                   close after the answer

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Mojo::IOLoop ();

sub new ($class, %opt) {
    # Thousands of clients at once are a test, not a mistake.
    Mojo::IOLoop->singleton->max_connections(100_000);

    return bless {
        keep_body => 1 << 20,
        %opt,
        connections => {},
        accepted => 0,
        held => [],
        listeners => [],
    }, $class;
}

# Takes address, port and, for TLS, tls_cert, tls_key and tls_options (those
# of IO::Socket::SSL); returns the port.
sub listen ($self, %where) {
    $where{tls} = 1 if $where{tls_cert};

    my $listener = {where => {%where}};
    push @{$self->{listeners}}, $listener;

    return $self->_open($listener);
}

sub _open ($self, $listener) {
    my $id = Mojo::IOLoop->server(
        {backlog => 4096, %{$listener->{where}}},
        sub ($loop, $stream, $cid) { $self->_accept($stream, $cid) }
    );

    $listener->{id} = $id;

    return $listener->{where}{port} = Mojo::IOLoop->acceptor($id)->port;
}

# Stops listening and drops what is connected: further connections are refused.
sub close_port ($self) {
    for my $listener (@{$self->{listeners}}) {
        Mojo::IOLoop->remove(delete $listener->{id}) if $listener->{id};
    }

    $_->{stream}->close for values %{$self->{connections}};

    return;
}

sub open_port ($self) {
    $_->{id} or $self->_open($_) for @{$self->{listeners}};

    return;
}

sub held ($self) {
    @{$self->{held}} = grep { !$_->[0]{connection}{closed} } @{$self->{held}};

    return scalar @{$self->{held}};
}

# Lets the first $count held answers go, all by default.
sub release ($self, $count = undef) {
    $self->held;
    $count //= @{$self->{held}};

    my @held = splice @{$self->{held}}, 0, $count;
    $_->[1]->() for @held;

    return scalar @held;
}

sub _accept ($self, $stream, $id) {
    my $c = $self->{connections}{$id} = {
        id => $id,
        number => ++$self->{accepted},
        stream => $stream,
        in => '',
        requests => 0,
    };

    $stream->timeout(0);
    $stream->on(read => sub ($stream, $bytes) {
        $c->{in} .= $bytes;
        $self->_feed($c);
    });
    $stream->on(error => sub { });
    $stream->on(close => sub {
        $c->{closed} = 1;
        delete $self->{connections}{$id};
    });

    return;
}

sub _feed ($self, $c) {
    while (!$c->{closed} && !$c->{busy}) {

        if ($c->{tunnel}) {
            $c->{stream}->write(substr $c->{in}, 0, length $c->{in}, '')
                if length $c->{in};
            return;
        }

        if (!$c->{request}) {
            my $end = index $c->{in}, "\r\n\r\n";
            return if $end < 0;

            my $head = substr $c->{in}, 0, $end + 4, '';
            $c->{request} = Gateway::Server::Request->new($self, $c, $head)
                or return $self->_refuse($c);
        }

        my $req = $c->{request};
        my $done = $req->_take_body(\$c->{in}) // return $self->_refuse($c);

        return if !$done;

        $c->{request} = undef;
        $c->{busy} = 1;
        $c->{requests}++;
        $self->{on_request}->($req);
    }

    return;
}

sub _refuse ($self, $c) {
    $c->{busy} = 1;
    $c->{stream}->write("HTTP/1.1 400 Bad Request\r\n"
        . "Content-Length: 0\r\nConnection: close\r\n\r\n");
    $c->{stream}->close_gracefully;

    return;
}

package Gateway::Server::Request;

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Digest::SHA ();
use IO::Compress::Gzip ();
use MIME::Base64 qw(decode_base64);
use Mojo::IOLoop ();
use Mojo::JSON qw(decode_json encode_json);
use Mojo::Message::Response ();
use Socket qw(SOL_SOCKET SO_LINGER);

sub new ($class, $server, $c, $head) {
    my ($line, @lines) = split /\r\n/, $head;

    my ($method, $target, $version)
        = $line =~ m{^(\S+) (\S+) HTTP/(\d\.\d)$} or return;

    my @headers;
    for (@lines) {
        push @headers, /^([^:]*):[ \t]*(.*?)[ \t]*$/s ? [$1, $2] : return;
    }

    my $self = bless {
        server => $server,
        connection => $c,
        method => $method,
        target => $target,
        version => $version,
        headers => \@headers,
        head => $head,
        body => '',
        body_length => 0,
        digest => Digest::SHA->new(256),
    }, $class;

    my $expect = lc($self->header('Expect') // '');
    $c->{stream}->write("HTTP/1.1 100 Continue\r\n\r\n")
        if $expect eq '100-continue' && $version ne '1.0';

    if (lc($self->header('Transfer-Encoding') // '') eq 'chunked') {
        $self->{chunked} = 1;
        $self->{state} = 'size';

    } else {
        $self->{left} = $self->header('Content-Length') // 0;
        return if $self->{left} !~ /^\d+$/;
    }

    return $self;
}

sub header ($self, $name) { return ($self->header_all($name))[0] }

sub header_all ($self, $name) {
    return map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{$self->{headers}};
}

sub path ($self) { return $self->{target} =~ s/\?.*//sr }

sub query ($self) {
    return $self->{target} =~ /\?(.*)/s ? $1 : '';
}

sub body_sha256 ($self) {
    return $self->{sha256} //= $self->{digest}->hexdigest;
}

sub keepalive ($self) {
    my $connection = lc join ',', $self->header_all('Connection');

    return 0 if $connection =~ /\bclose\b/;
    return $self->{version} ne '1.0' || $connection =~ /\bkeep-alive\b/;
}

# What a test wants to know of a request, fit for JSON.
sub record ($self) {
    my $handle = $self->{connection}{stream}->handle;
    my %tls = ref $handle && $handle->isa('IO::Socket::SSL')
        ? (tls => $handle->get_sslversion,
            sni => scalar $handle->get_servername)
        : ();

    return {
        method => $self->{method},
        uri => $self->{target},
        path => $self->path,
        version => $self->{version},
        headers => $self->{headers},
        head => $self->{head},
        body => $self->{body},
        body_length => $self->{body_length},
        body_sha256 => $self->body_sha256,
        connection => $self->{connection}{number},
        chunked => $self->{chunked} ? 1 : 0,
        %tls,
    };
}

sub _keep ($self, $bytes) {
    $self->{body_length} += length $bytes;
    $self->{digest}->add($bytes);

    my $room = $self->{server}{keep_body} - length $self->{body};
    $self->{body} .= substr $bytes, 0, $room if $room > 0;

    return;
}

# Moves body bytes out of the buffer.  True at the end of the body, false if
# more is needed, undefined if it is not a body.
sub _take_body ($self, $in) {
    if (!$self->{chunked}) {
        my $bytes = substr $$in, 0, $self->{left}, '';
        $self->{left} -= length $bytes;
        $self->_keep($bytes);

        return $self->{left} ? 0 : 1;
    }

    while (length $$in) {
        if ($self->{state} eq 'data') {
            my $bytes = substr $$in, 0, $self->{left}, '';
            $self->{left} -= length $bytes;
            $self->_keep($bytes);
            return 0 if $self->{left};
            $self->{state} = 'end';
        }

        $$in =~ s/^([^\n]*)\r\n// or return 0;
        my $line = $1;

        if ($self->{state} eq 'end') {
            return if length $line;
            $self->{state} = 'size';

        } elsif ($self->{state} eq 'size') {
            $line =~ /^([0-9a-fA-F]{1,15})\s*(?:;.*)?$/ or return;
            $self->{left} = hex $1;
            $self->{state} = $self->{left} ? 'data' : 'trailer';

        } elsif ($line eq '') {
            return 1;
        }
    }

    return 0;
}

sub respond ($self, $answer, $how = {}) {
    return if $how->{blackhole};

    my $next = sub {
        return if $self->{connection}{closed};
        $self->_build($answer, $how);
    };

    if ($how->{delay}) {
        my $now = $next;
        $next = sub { Mojo::IOLoop->timer($how->{delay} => $now) };
    }

    if ($how->{hold}) {
        push @{$self->{server}{held}}, [$self, $next];
        return;
    }

    $next->();

    return;
}

sub _merge ($to, $from) {
    for (keys %$from) {
        if (ref $from->{$_} eq 'HASH' && ref $to->{$_} eq 'HASH') {
            _merge($to->{$_}, $from->{$_});

        } else {
            $to->{$_} = $from->{$_};
        }
    }

    return $to;
}

sub _body ($self, $answer, $how) {
    my $body = $answer->{body} // '';

    if (defined $how->{body_base64}) {
        $body = decode_base64($how->{body_base64});

    } elsif (defined $how->{body}) {
        $body = $how->{body};
        utf8::encode($body);
    }

    $body = encode_json(_merge(decode_json($body), $how->{patch}))
        if $how->{patch};

    if (defined $how->{body} || defined $how->{body_base64}) {
        my $token = $self->header('QB-Token') // '';
        $body =~ s/\{\{token\}\}/$token/g;
    }

    $body = '' if $how->{huge};
    $body = join '', @{$how->{pieces}} if $how->{pieces};

    if ($how->{gzip}) {
        my $plain = $body;
        IO::Compress::Gzip::gzip(\$plain => \$body, Time => 0);
    }

    return $body;
}

sub _headers ($answer, $how) {
    my @given = @{$how->{headers} // []};
    my %replaced = map { lc $_->[0] => 1 } @given;

    return (
        (grep { !$replaced{lc $_->[0]} } @{$answer->{headers} // []}),
        (grep { defined $_->[1] } @given)
    );
}

sub _build ($self, $answer, $how) {
    return $self->_end('reset') if ($how->{reset} // '') eq 'before';
    return $self->_end('close') if ($how->{cut} // '') eq 'before';

    if (defined $how->{raw}) {
        return $self->_write([decode_base64($how->{raw})], $how,
            $how->{keep} ? 'keep' : 'close');
    }

    return $self->_upgrade($how) if $how->{upgrade};

    $answer = $answer->() if ref $answer eq 'CODE';

    my $status = $how->{status} // $answer->{status} // 200;
    my $body = $self->_body($answer, $how);
    my @headers = _headers($answer, $how);
    my $bodiless = $status == 204 || $status == 304 || $status < 200;
    my $version = $how->{version} // '1.1';
    my $chunked = $how->{chunked} || ($how->{pieces} && !$how->{no_length}
        && !defined $how->{length} && 'whole');
    my $close = $how->{close} || $answer->{close} || $how->{no_length}
        || !$self->keepalive;

    my %named = map { lc $_->[0] => 1 } @headers;

    push @headers, ['Content-Encoding', 'gzip'] if $how->{gzip};

    if ($bodiless || $how->{no_length} || $named{'content-length'}) {
        # The header says what it says.

    } elsif ($chunked) {
        push @headers, ['Transfer-Encoding', 'chunked'];

    } else {
        my $length = $how->{huge} || length $body;
        $length = 1 << 40 if $length eq 'endless';
        push @headers, ['Content-Length', $how->{length} // $length];
    }

    push @headers, ['Connection', $close ? 'close' : 'keep-alive']
        if !$named{connection} && ($close || $self->{version} eq '1.0');

    my $reason = Mojo::Message::Response->new->default_message($status);
    my $head = join "\r\n", "HTTP/$version $status $reason",
        (map { "$_->[0]: $_->[1]" } @headers), '', '';

    $head = $how->{before} . $head if defined $how->{before};
    $body = '' if $self->{method} eq 'HEAD' || $bodiless;

    my @pieces = _pieces($body, $how, $chunked, $bodiless
        || $self->{method} eq 'HEAD');

    my $end = $close ? 'close' : 'keep';

    for my $way (qw(reset cut)) {
        my $at = $how->{$way} // next;
        my $all = join '', $head, @pieces;
        my $length = $at eq 'headers' ? length($head) / 2
            : $at eq 'body' ? length($head) + (length($all) - length $head) / 2
            : $at eq 'last' ? length($all) - 1
            : $at;
        return $self->_write([substr $all, 0, int $length], $how,
            $way eq 'reset' ? 'reset' : 'close');
    }

    return $self->_flood($head, $how, $end) if $how->{huge};

    # The head leaves together with the first piece, unless that would hide
    # when a client sees the head.
    @pieces = ($head . (shift @pieces // ''), @pieces) if !$how->{step};
    @pieces = ($head, @pieces) if $how->{step};

    return $self->_write(\@pieces, $how, $end);
}

sub _pieces ($body, $how, $chunked, $bodiless) {
    return if $bodiless;

    my @parts;
    if ($how->{pieces}) {
        @parts = @{$how->{pieces}};

    } elsif (my $split = $how->{split}) {
        my @at = ref $split ? @$split : 1 .. length($body) - 1;
        my $from = 0;
        for (@at, length $body) {
            push @parts, substr $body, $from, $_ - $from;
            $from = $_;
        }

    } elsif ($chunked && $chunked =~ /^\d+$/) {
        @parts = unpack "(a$chunked)*", $body;

    } elsif (length $body) {
        @parts = ($body);
    }

    return @parts if !$chunked;

    my $extension = $how->{extension} ? ";$how->{extension}" : '';
    my @chunks = map { sprintf "%x%s\r\n%s\r\n", length, $extension, $_ }
        @parts;
    my $last = join "\r\n", '0',
        (map { "$_->[0]: $_->[1]" } @{$how->{trailers} // []}), '', '';

    # Unless they were asked for, chunks are no reason for several writes.
    return $how->{pieces} || $how->{split} ? (@chunks, $last)
        : join '', @chunks, $last;
}

# Writes the pieces one after the other, each in a segment of its own.
sub _write ($self, $pieces, $how, $end) {
    my $stream = $self->{connection}{stream};
    my @pieces = @$pieces;

    if (my $rate = $how->{drip}) {
        my $size = $rate > 20 ? int $rate / 20 : 1;
        @pieces = unpack "(a$size)*", join '', @pieces;
        my $id;
        $id = Mojo::IOLoop->recurring($size / $rate => sub {
            if ($self->{connection}{closed}) {
                Mojo::IOLoop->remove($id);

            } elsif (@pieces) {
                $stream->write(shift @pieces);

            } else {
                Mojo::IOLoop->remove($id);
                $self->_end($end);
            }
        });
        return;
    }

    my $next;
    $next = sub {
        if ($self->{connection}{closed}) {
            undef $next;
            return;
        }

        if (!@pieces) {
            undef $next;
            return $self->_end($end);
        }

        $stream->write(shift @pieces, sub {
            return $next && $next->() if !@pieces;

            if ($how->{step}) {
                push @{$self->{server}{held}}, [$self, $next];

            } else {
                Mojo::IOLoop->timer(0.005 => $next);
            }
        });
    };
    $next->();

    return;
}

sub _flood ($self, $head, $how, $end) {
    my $left = $how->{huge} eq 'endless' ? 9**9**9 : $how->{huge};
    my $stream = $self->{connection}{stream};

    my $more;
    $more = sub {
        if ($self->{connection}{closed} || !$left) {
            undef $more;
            return $self->{connection}{closed} || $self->_end($end);
        }

        my $size = $left > 65536 ? 65536 : $left;
        $left -= $size;
        $stream->write(' ' x $size, sub { $more && $more->() });
    };
    $stream->write($head, sub { $more && $more->() });

    return;
}

sub _upgrade ($self, $how) {
    my $c = $self->{connection};
    my $to = $self->header('Upgrade') // 'websocket';

    my $head = join "\r\n", 'HTTP/1.1 101 Switching Protocols',
        (map { "$_->[0]: $_->[1]" } ['Upgrade', $to],
            ['Connection', 'Upgrade'], _headers({}, $how)), '', '';

    $c->{stream}->write($head);
    $c->{tunnel} = 1;
    $c->{busy} = 0;
    $self->{server}->_feed($c);

    return;
}

sub _end ($self, $end) {
    my $c = $self->{connection};

    return if $c->{closed};

    if ($end eq 'close') {
        $c->{stream}->close_gracefully;

    } elsif ($end eq 'reset') {
        # What was written gets its chance to arrive first.
        Mojo::IOLoop->timer(0.02 => sub { $self->_reset });

    } else {
        $c->{busy} = 0;
        Mojo::IOLoop->next_tick(sub { $self->{server}->_feed($c) });
    }

    return;
}

# Closing with a linger time of zero sends RST.
sub _reset ($self) {
    my $stream = $self->{connection}{stream};

    return if $self->{connection}{closed};

    setsockopt $stream->handle, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    $stream->close;

    return;
}

1;
