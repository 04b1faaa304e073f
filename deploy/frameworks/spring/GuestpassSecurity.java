// Spring Boot 3 or 4, Spring Security 6 or 7: recognises the guest of a page that Guestpass keeps in cookies. Needs
// spring-boot-starter-oauth2-resource-server. NOT RUN, nor compiled: written by the documentation.
//
// A guest's `Authentication.getName()` is its sub. Without a good token a request is nobody's (soft), and under /account/ it
// gets 401 (strict). Headers of the client say nothing here. No cookie is set: the page renews its tokens. Spring Security
// marks every answer `no-store`; if you switch that off, mark what is for one guest `private`.

package shop;

import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import jakarta.servlet.http.HttpServletRequest;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.slf4j.LoggerFactory;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.security.authentication.ProviderManager;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.config.http.SessionCreationPolicy;
import org.springframework.security.oauth2.core.DelegatingOAuth2TokenValidator;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.security.oauth2.jwt.BadJwtException;
import org.springframework.security.oauth2.jwt.JwtClaimNames;
import org.springframework.security.oauth2.jwt.JwtClaimValidator;
import org.springframework.security.oauth2.jwt.JwtDecoder;
import org.springframework.security.oauth2.jwt.JwtException;
import org.springframework.security.oauth2.jwt.JwtIssuerValidator;
import org.springframework.security.oauth2.jwt.JwtTimestampValidator;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;
import org.springframework.security.oauth2.server.resource.authentication.JwtAuthenticationProvider;
import org.springframework.security.oauth2.server.resource.web.BearerTokenAuthenticationEntryPoint;
import org.springframework.security.oauth2.server.resource.web.BearerTokenResolver;
import org.springframework.security.oauth2.server.resource.web.authentication.BearerTokenAuthenticationFilter;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.security.web.authentication.AnonymousAuthenticationFilter;

@Configuration
class GuestpassSecurity {
    private static final String ISSUER = setting("GUESTPASS_ISSUER", "https://www.shop.example");
    // Of your own service, if it has one: the issuer restricts nothing.
    private static final String AUDIENCE = setting("GUESTPASS_AUDIENCE", ISSUER);
    private static final String CLIENT = setting("GUESTPASS_CLIENT", "shop-web");
    private static final String COOKIE = setting("GUESTPASS_COOKIE", "__Host-guest"); // on loopback over http: guest
    private static final String KEYS = setting("GUESTPASS_KEYS", ISSUER + "/oauth/jwks");

    @Bean
    SecurityFilterChain guests(HttpSecurity http, JwtDecoder decoder) throws Exception {
        // Not by oauth2ResourceServer(): that switches CSRF protection off for requests with a token, which is right for a
        // header and wrong for a cookie.
        var filter = new BearerTokenAuthenticationFilter(new ProviderManager(new JwtAuthenticationProvider(decoder)));
        filter.setBearerTokenResolver(cookieOf(decoder));
        return http
            .addFilterBefore(filter, AnonymousAuthenticationFilter.class)
            .authorizeHttpRequests(paths -> paths.requestMatchers("/account/**").authenticated().anyRequest().permitAll())
            .exceptionHandling(refusal -> refusal.authenticationEntryPoint(new BearerTokenAuthenticationEntryPoint()))
            .sessionManagement(session -> session.sessionCreationPolicy(SessionCreationPolicy.STATELESS))
            .build();
    }

    @Bean
    JwtDecoder guestpassDecoder() {
        // Nimbus takes `typ` JWT only, unless it is told.
        var type = new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt"));
        NimbusJwtDecoder decoder = NimbusJwtDecoder.withJwkSetUri(KEYS)
            .jwsAlgorithm(SignatureAlgorithm.ES256) // the one that you have chosen, and no other
            .jwtProcessorCustomizer(processor -> processor.setJWSTypeVerifier(type))
            .build();
        // Not by JwtValidators: from Spring Security 7 on, its defaults take `typ` JWT only.
        decoder.setJwtValidator(new DelegatingOAuth2TokenValidator<>(
            new JwtTimestampValidator(),
            new JwtIssuerValidator(ISSUER),
            new JwtClaimValidator<List<String>>(JwtClaimNames.AUD, names -> names != null && names.contains(AUDIENCE)),
            new JwtClaimValidator<Object>(JwtClaimNames.EXP, exp -> exp != null),
            new JwtClaimValidator<String>("client_id", CLIENT::equals)));
        return decoder;
    }

    // Finds the token, or nothing if it isn't good: what the filter finds and can't verify would be 401 on every path.
    private static BearerTokenResolver cookieOf(JwtDecoder decoder) {
        return request -> {
            String token = tokenIn(request);
            if (token == null) return null;
            try {
                decoder.decode(token);
                return token;
            } catch (BadJwtException refused) {
                return null;
            } catch (JwtException noKeys) {
                LoggerFactory.getLogger(GuestpassSecurity.class).warn("Guestpass: no keys.", noKeys);
                return null;
            }
        };
    }

    // Reads the header as it came, since a parser chooses between two values of one name. One of them may be planted
    // (RFC 6265 §8.6).
    private static String tokenIn(HttpServletRequest request) {
        List<String> values = Collections.list(request.getHeaders("Cookie")).stream()
            .flatMap(field -> Arrays.stream(field.split(";")))
            .map(pair -> pair.replaceAll("^[ \\t]+|[ \\t]+$", ""))
            .filter(pair -> pair.startsWith(COOKIE + "="))
            .distinct()
            .toList();
        return values.size() == 1 ? values.get(0).substring(COOKIE.length() + 1) : null;
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
