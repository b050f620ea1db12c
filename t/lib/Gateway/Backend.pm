package Gateway::Backend;

# A backend that records what it was sent, and answers with a description of
# it or as it was told.  A program of its own, started by Gateway.pm:
#
#     perl -It/lib -MGateway::Backend -e 'Gateway::Backend::main()' JSON

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Gateway::Server ();
use MIME::Base64 qw(encode_base64);
use Mojo::IOLoop ();
use Mojo::JSON qw(decode_json encode_json);
use Mojo::UserAgent ();

my (@requests, %hits, @answers);
my $check = {};
my $private;
my $agent = Mojo::UserAgent->new(max_connections => 100);

my ($server, $control);

sub main {
    my $conf = decode_json($ARGV[0]);

    $server = Gateway::Server->new(
        on_request => \&on_request,
        keep_body => $conf->{keep_body} // 1 << 20,
    );
    $control = Gateway::Server->new(on_request => \&on_control);

    $check = $conf->{check} if $conf->{check};
    $private = $conf->{private};

    my $address = $conf->{address} // '127.0.0.1';
    $server->listen(address => $address, port => $conf->{port});
    $server->listen(
        address => $address,
        port => $conf->{tls_port},
        tls_cert => $conf->{cert},
        tls_key => $conf->{key},
    ) if $conf->{tls_port};
    $control->listen(address => '127.0.0.1', port => $conf->{control});

    # The test may have gone without saying so.
    my $stream = Mojo::IOLoop::Stream->new(\*STDIN);
    $stream->timeout(0);
    $stream->on(close => sub { exit 0 });
    $stream->on(read => sub { });
    Mojo::IOLoop->stream($stream);

    $| = 1;
    print "listening\n";

    Mojo::IOLoop->start;

    return;
}

sub on_request ($req) {
    my $path = $req->path;

    $hits{$path}++;
    push @requests, $req->record;
    shift @requests if @requests > 20_000;

    my $token = join ', ', $req->header_all('QB-Token');

    if ($check->{api}) {
        $agent->post_p("http://127.0.0.1:$check->{api}/-/touch",
            json => {token => $token})->then(sub ($tx) {
            my $answer = $tx->res->json;
            answer($req, $path, $answer->{live}, $answer->{date});
        })->catch(sub ($error) {
            $req->respond({status => 500, body => $error});
        });
        return;
    }

    my $live = !$check->{tokens}
        || grep { $_ eq $token } @{$check->{tokens}};

    answer($req, $path, $live, undef);

    return;
}

sub answer ($req, $path, $live, $date) {
    my ($how) = grep {
        ($_->{path} eq '*' || $_->{path} eq $path)
            && (!defined $_->{method} || $_->{method} eq $req->{method})
            && (!defined $_->{token}
                || $_->{token} eq ($req->header('QB-Token') // ''))
            && (!defined $_->{times} || $_->{times} > 0)
    } reverse @answers;

    $how->{times}-- if $how && defined $how->{times};

    $req->respond($live ? describe($req, $path, $date) : expired(),
        $how // {});

    return;
}

sub describe ($req, $path, $date) {
    my $token = join ', ', $req->header_all('QB-Token');
    my $headers = $req->{headers};

    if (defined $private && index($path, $private) == 0) {
        $token = 'not shown' if length $token;
        $headers = [map { [$_->[0], lc $_->[0] eq 'qb-token' ? $token
            : $_->[1]] } @$headers];
    }

    return {
        status => 200,
        headers => [
            ['Content-Type', 'application/json'],
            (defined $date ? (['QB-Token-ExpirationDate', $date]) : ()),
        ],
        body => encode_json({
            method => $req->{method},
            uri => $req->{target},
            version => $req->{version},
            headers => $headers,
            body_length => $req->{body_length},
            body_sha256 => $req->body_sha256,
            token => $token,
            connection => $req->{connection}{number},
            hit => $hits{$path},
        }),
    };
}

# As QuickBlox answers a token that it does not know.
sub expired {
    return {
        status => 401,
        headers => [
            ['Content-Type', 'application/json; charset=utf-8'],
            ['QuickBlox-REST-API-Version', '0.1.1'],
            ['Access-Control-Allow-Origin', '*'],
            ['Set-Cookie', '_mkra_ctxt=0123456789abcdef--401; path=/; '
                . 'max-age=5; HttpOnly'],
        ],
        body => '{"errors":{"base":["Required session does not exist"]}}',
    };
}

sub readable ($record) {
    my $body = $record->{body};

    return {%$record, body => undef, body_base64 => encode_base64($body, '')};
}

sub on_control ($req) {
    my $path = $req->path =~ s{^/-/}{}r;
    my $data = length $req->{body} ? decode_json($req->{body}) : {};

    my %control = (
        calls => sub { {requests => [map { readable($_) } @requests]} },
        hits => sub { {hits => \%hits} },
        connections => sub {
            {
                accepted => $server->{accepted},
                open => scalar(keys %{$server->{connections}}),
            }
        },
        held => sub { {held => $server->held} },
        release => sub { {released => $server->release($data->{count})} },
        answer => sub { push @answers, $data; {} },
        heal => sub { @answers = (); {} },
        check => sub { $check = $data; {} },
        reset => sub { @requests = %hits = (); {} },
        close => sub { $server->close_port; {} },
        open => sub { $server->open_port; {} },
    );

    my $answer = $control{$path}
        ? eval { $control{$path}->() } // {error => $@}
        : {error => 'no such control call'};

    $req->respond({
        status => defined $answer->{error} ? 400 : 200,
        body => encode_json($answer),
    });

    return;
}

1;
