package Gateway::Secrets;

# What a test's processes must not tell of, and the search for it.
#
# A secret of the gateway's, and a password, may be nowhere.  A token, a cookie
# or an API key may be where nginx itself writes down, at level debug, the
# headers that it receives and sends; these records are known by their form.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Exporter qw(import);
use MIME::Base64 qw(decode_base64);
use Mojo::JSON qw(decode_json);
use Mojo::Util qw(url_unescape);

our @EXPORT_OK = qw(learn_configuration learn_request learn_response
    learn_secrets learn_public secrets_in secrets_in_file secrets_in_answers);

# The records of nginx's own with headers, variables and what is sent.
my $RECORDS = qr{
    http2?\ (?:cookie|header|table\ add)
    | http\ (?:proxy|fastcgi|uwsgi|scgi|grpc)\ (?:header|param)
    | (?:fastcgi|uwsgi|scgi)\ param
    | grpc\ header
    | parse\ header
    | http\ (?:request\ line|args|map|output\ filter|regex\ set)
    | http\ script\ (?:var|copy|capture)
    | http2\ output\ header
    | HTTP/1\.[01]\ \d                       # a response's head
    | ".*"\ (?:matches|does\ not\ match)\ "   # whatever an "if" looks at
}x;

# And of its "auth_basic", which compares passwords, and of what it leaves in
# the environment of a new binary.
my $FOREIGN = qr/rc: -?\d+ user: "|encrypted: "|env: /;

# By name, in the block of an application; a value may be in quotes.
my $DIRECTIVE = qr{
    ^\s* (auth_key|auth_secret|password|api_key|cookie_key)
    \s+ ((?: "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | [^\s;"'\\] | \\. | \s)+?)
    \s* ;
}xm;

# Of all tests of this process: a secret => whether it may be in a header.
my %secrets = (jyqGNhbGxkvBTgd => 0);
my %public;
my %answers;

# As they are in a log.  Short ones could be anything, and long ones are
# hostile.
sub _bytes (@secrets) {
    my @bytes = grep { defined } @secrets;
    utf8::encode($_) for grep { utf8::is_utf8($_) } @bytes;

    return grep { length >= 8 && length() <= 200 } @bytes;
}

sub _never (@secrets) {
    $secrets{$_} = 0 for _bytes(@secrets);

    return;
}

sub _carried (@secrets) {
    $secrets{$_} //= 1 for _bytes(@secrets);

    return;
}

sub learn_secrets (@secrets) { return _carried(@secrets) }

sub learn_public (@strings) {
    @public{@strings} = ();

    return;
}

# env: what nginx runs with.
sub learn_configuration ($text, $env) {
    my $read = sub ($file) {
        open my $handle, '<:raw', $file or return;
        local $/;
        return <$handle>;
    };

    while ($text =~ /$DIRECTIVE/g) {
        my ($name, $values) = ($1, $2);

        for ($values =~ /("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\S+)/g) {
            my $value = s/^(["'])(.*)\1$/$2/sr =~ s/\\(.)/$1/gsr;
            my $secret
                = $value =~ /^env:(.*)/s ? $env->{$1} // $ENV{$1}
                : $value =~ /^file:(.*)/s ? $read->($1)
                : $name eq 'cookie_key' ? $read->($value) : $value;

            next if !defined $secret;
            $secret =~ s/\n$//;
            $name eq 'api_key' ? _carried($secret) : _never($secret);
        }
    }

    return;
}

# headers: pairs.  What a client logs in with, in any form.
sub learn_request ($headers, $body) {
    for (@$headers) {
        my ($name, $value) = @$_;
        next if lc $name ne 'authorization'
            || ($value // '') !~ /^Basic\s+([\w+\/=-]{8,})/i;
        _carried($1);
        _never(decode_base64($1) =~ /:(.*)/s);
    }

    return if length $body > 65536;

    _never(map { eval { decode_json("[$_]")->[0] } }
        $body =~ /"password"\s*:\s*("(?:[^"\\]|\\.)*")/g);
    _never(map { url_unescape(tr/+/ /r) }
        $body =~ /(?:^|&)password=([^&]*)/g);

    return;
}

sub learn_response ($headers, $raw) {
    _carried(($_->[1] // '') =~ /^[^=]+=([\w-]{60,})(?:;|$)/)
        for grep { lc $_->[0] eq 'set-cookie' } @$headers;

    $answers{$raw} = 1 if length $raw < 65536;

    return;
}

# Patterns that perl still makes a trie of, and so looks for in one pass.
sub _any (@secrets) {
    my @words = map { quotemeta } sort grep { !exists $public{$_} } @secrets;
    my @any;

    while (my @some = splice @words, 0, 200) {
        my $some = join '|', @some;
        push @any, qr/$some/;
    }

    return \@any;
}

sub _all { return _any(keys %secrets) }
sub _never_any { return _any(grep { !$secrets{$_} } keys %secrets) }

sub _found ($where, $text, $any, $found) {
    my @found;

    for my $some (@$any) {
        while ($text =~ /$some/g) {
            my ($from, $to) = ($-[0], $+[0]);
            my $secret = substr $text, $from, $to - $from;
            my $start = $from > 60 ? $from - 60 : 0;
            my $before = substr $text, $start, $from - $start;

            push @found, "a secret in $where: $before\[$secret]"
                if !$found->{$secret}++;
        }
    }

    return @found;
}

# Texts about what is wrong with a log.
sub secrets_in ($where, $log) {
    my ($all, $never) = (_all(), _never_any());
    my (@found, %found);

    return if !grep { $log =~ $_ } @$all;

    # A record may have several lines.  Those of an API call have our name.
    for my $record (split m{^(?=\d{4}/\d\d/\d\d )}m, $log) {
        my ($message) = $record
            =~ /^\S+ \S+ \[(?:debug|notice)\] \d+#\d+: (?:\*\d+ )?(.*)/s;
        $message //= '';

        next if $message =~ /^$FOREIGN/;
        my $own = $message =~ /^$RECORDS/;

        push @found, _found($where, $record, $own ? $never : $all, \%found);
    }

    return @found;
}

# A file may be what an upstream sent, with what it was given.
sub secrets_in_file ($where, $text) {
    return _found($where, $text, _never_any(), {});
}

# Nor may any client have been told.
sub secrets_in_answers () {
    my $never = _never_any();

    return map { _found('an answer', $_, $never, {}) } sort keys %answers;
}

1;
