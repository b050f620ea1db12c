# docs/troubleshooting.md has each message of the sources at warn and above,
# and each text that becomes a part of one, in its exact words, and no other.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Test::More;

# What logs, and what has only such a name.
my $LOGS = qr/^ngx_(?:conf_log|log|ssl)_error$/;
my $SILENT = qr/^(?:ngx_log_debug\d|ngx_sl?n?printf|ngx_resolver_strerror
    |ngx_http_set_log_request|ERR_clear_error)$/x;

# Of "level" it is known at run time which it is.
my %LEVEL = (EMERG => 'emerg', ALERT => 'alert', CRIT => 'crit',
    ERR => 'error', WARN => 'warn', level => qr/alert|crit|warn/);
my $LOW = qr/^(?:NOTICE|INFO)$/;

# What a client or Prometheus is told (see docs.t and status.t), and what the
# API says.
my $OTHERS = qr/_(?:refusal|report)\.c$/;
my %API = map { $_ => 1 } 'session does not exist', 'Bad timestamp',
    'Unexpected signature', 'Required session does not exist';

# The macros of nginx that are a part of a literal.
my %WORD = (ngx_open_file_n => 'open()', ngx_fd_info_n => 'fstat()',
    ngx_read_fd_n => 'read()', ngx_close_file_n => 'close()',
    CRLF => "\r\n");

my $WORD = join '|', sort keys %WORD;
my $LITERAL = qr/"(?:[^"\\]|\\.)*"/s;


# A source without comments, with its literals, those side by side in one, by
# their number; and they.
sub source ($file) {
    my @literals;

    my $literal = sub ($text) {
        push @literals, join '', map { $WORD{$_}
            // s/^"|"$//gr =~ s/\\(["\\])/$1/gr }
            $text =~ /$LITERAL|\w+/g;

        return qq("$#literals");
    };

    my $text = Docs::slurp($file)
        =~ s{/\*.*?\*/|'(?:[^'\\]|\\.)'|^\#\ *include\N*
            |($LITERAL(?:\s*(?:$LITERAL|\b(?:$WORD)\b))*)}
            {defined $1 ? $literal->($1) : ' '}gsemxr;

    return $text, @literals;
}

# What a message looks like in the documentation: an upper-case word stands
# for what its format prints, or for several of them side by side.
sub form ($format) {
    my $form = join '[A-Z]+', map { quotemeta }
        split /(?:%(?:\*s|u?[a-zA-Z]))+/, $format, -1;

    return qr/^$form$/;
}

sub is_sentence ($text) {
    return $text =~ /[a-z)"] +[a-z(]/i && $text !~ /\r\n/;
}

my (@messages, %unknown);

for my $file (sort glob 'ngx_http_quickblox_module/*.[ch]') {
    my ($text, @literals) = source($file);
    my @seen;

    while ($text =~ /\b(\w+)(\((?:[^()]++|(?2))*\))/g) {
        my ($function, $arguments) = ($1, $2);

        pos $text = $-[2] + 1;

        next if $function =~ /^ngx_http_quickblox_/
            || $function !~ /log|err|print/i;

        if ($function =~ $LOGS) {
            my ($level, $number) = $arguments =~
                /^\((?:NGX_LOG_)?(\w+),[^,"]+,[^,"]+,\s*"(\d+)"\s*[,)]/;

            if (!defined $number || !$LEVEL{$level} && $level !~ $LOW) {
                $unknown{"$file: $function$arguments"} = 1;
                next;
            }

            $seen[$number] = 1;
            push @messages, {text => $literals[$number], file => $file,
                level => $LEVEL{$level}} if $LEVEL{$level};

        } elsif ($function !~ $SILENT) {
            $unknown{"$file: $function()"} = 1;

        } elsif ($function =~ /debug/) {
            $seen[$_] = 1 for $arguments =~ /"(\d+)"/g;
        }
    }

    # Any other sentence may become a part of a message.
    push @messages, map { {text => $literals[$_], file => $file} }
        grep { !$seen[$_] && is_sentence($literals[$_])
            && !$API{$literals[$_]} && $file !~ $OTHERS } 0 .. $#literals;
}

is_deeply [sort keys %unknown], [], 'it is known what logs, and how';
cmp_ok scalar(grep { $_->{level} } @messages), '>=', 80, 'there are messages';
cmp_ok scalar(grep { !$_->{level} } @messages), '>=', 80, 'and parts of them';

my @entries = map { {text => $_->[0], level => $_->[1] // ''} }
    map { [/^- `([^`]+)`(?: \((\w+)\))?: \S/] }
    grep { /^- `/ } split /\n/, Docs::slurp('docs/troubleshooting.md');

# Parts have no level, and emerg is not written.
for my $message (@messages) {
    my $form = form($message->{text});
    my $level = ($message->{level} // '') =~ s/^emerg$//r;

    my @found = grep { $_->{text} =~ $form && $_->{level} =~ /^$level$/ }
        @entries;

    is @found, 1, "$message->{file}: $message->{text}";
    $_->{found} = 1 for @found;
}

is_deeply [map { $_->{text} } grep { !$_->{found} } @entries], [],
    'no other message is documented';

my %count;
is_deeply [grep { $count{$_}++ } map { $_->{text} } @entries], [],
    'each once';

note scalar(@messages), ' messages and parts, ', scalar(@entries),
    ' entries';

done_testing();
