# frozen_string_literal: true

# Rack, so Rails, Sinatra and others: recognises the guest of a page that Guestpass keeps in cookies. Needs ruby-jwt:
# gem install jwt
#
#   use Guestpass                 # soft: without a good token, a request is nobody's
#   use Guestpass, mode: :strict  # strict: without one, it gets 401. In config.ru inside `map '/account'`
#
# In Rails: config.middleware.insert_before 0, Guestpass
#
# What follows finds the guest's sub in the request header x-guestpass-sub, as behind a gateway: env['HTTP_X_GUESTPASS_SUB'].
# The header isn't there for nobody, and never comes from the client. No cookie is set here: the page renews its tokens.

require 'json'
require 'jwt'
require 'net/http'

class Guestpass
  ISSUER = ENV.fetch('GUESTPASS_ISSUER', 'https://www.shop.example')
  # Of your own service, if it has one: the issuer restricts nothing.
  AUDIENCE = ENV.fetch('GUESTPASS_AUDIENCE', ISSUER)
  CLIENT = ENV.fetch('GUESTPASS_CLIENT', 'shop-web')
  COOKIE = ENV.fetch('GUESTPASS_COOKIE', '__Host-guest') # on loopback over http: guest
  KEYS = URI(ENV.fetch('GUESTPASS_KEYS', "#{ISSUER}/oauth/jwks"))

  def initialize(app, mode: :soft)
    @app = app
    @is_strict = mode == :strict
  end

  def call(env)
    env.delete_if { |name, _| name.match?(/\AHTTP_X[^A-Z0-9]GUESTPASS[^A-Z0-9]/) }
    begin
      sub = guest_of(env['HTTP_COOKIE'].to_s)
    rescue StandardError => error
      warn("Guestpass: no keys. #{error.class}: #{error.message}")
      return [503, { 'retry-after' => '1', 'content-type' => 'text/plain' }, ['Unavailable']] if @is_strict
    end
    if sub
      env['HTTP_X_GUESTPASS_SUB'] = sub
    elsif @is_strict
      return [401, { 'www-authenticate' => 'Bearer', 'content-type' => 'text/plain' }, ['Unauthorized']]
    end
    answer = @app.call(env)
    keep_private(answer[1]) if sub
    answer
  end

  private

  # Returns the guest's sub, or nil for nobody. Raises an error if there are no keys now.
  def guest_of(cookies)
    token = token_in(cookies)
    return unless token

    payload, header = decode(token, KEY_SET.keys)
    payload['sub'] if payload && header['typ'] == 'at+jwt' && payload['client_id'] == CLIENT
  end

  def decode(token, keys)
    JWT.decode(
      token, nil, true,
      jwks: { 'keys' => keys },
      algorithms: ['ES256'], # the one that you have chosen, and no other
      iss: ISSUER, verify_iss: true,
      aud: AUDIENCE, verify_aud: true,
      required_claims: %w[sub exp], exp_leeway: 5
    )
  rescue StandardError # also what ruby-jwt trips over, such as a header that is no object
    nil
  end

  # Reads the header as it came, since a parser chooses between two values of one name. One of them may be planted
  # (RFC 6265 §8.6). ruby-jwt would read past what is no letter of base64url.
  def token_in(cookies)
    pairs = cookies.b.split(';').map { |pair| pair.gsub(/\A[ \t]+|[ \t]+\z/n, '') }
    values = pairs.select { |pair| pair.start_with?("#{COOKIE}=") }.uniq
    return unless values.size == 1

    values.first.delete_prefix("#{COOKIE}=")[/\A[\w-]+\.[\w-]+\.[\w-]+\z/]
  end

  # Marks the answer: nothing that the shop says lets a shared cache keep what is for one guest.
  def keep_private(headers)
    name = headers.keys.find { |known| known.casecmp?('cache-control') } || 'cache-control'
    headers[name] = 'private' unless headers[name].to_s.match?(/private|no-store/i)
  end

  # Fetches the keys, and keeps them for five minutes. A new key is published for longer than that before it signs.
  class KeySet
    def initialize
      @lock = Mutex.new
    end

    def keys
      @lock.synchronize do
        now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        @keys = nil if @keys && now > @fetched + 300
        @fetched = now unless @keys
        @keys ||= fetch
      end
    end

    private

    def fetch
      is_secure = KEYS.scheme == 'https'
      answer = Net::HTTP.start(KEYS.host, KEYS.port, use_ssl: is_secure, open_timeout: 2, read_timeout: 2) do |connection|
        connection.get(KEYS.request_uri)
      end
      raise "#{KEYS} answered #{answer.code}" unless answer.code == '200'

      JSON.parse(answer.body).fetch('keys')
    end
  end
  private_constant :KeySet

  KEY_SET = KeySet.new
  private_constant :KEY_SET
end
