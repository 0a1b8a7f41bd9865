import io.github.resilience4j.circuitbreaker.CircuitBreaker;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig.SlidingWindowType;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Replays vectors on resilience4j and prints the states.
 *
 * A vector is a line "V type size minimum failurePercent slowNanos slowPercent waitNanos permitted" and a line per
 * event, "nanosSinceTheLast operation call durationNanos": A asks for permission; S, F and C tell the result of a call
 * that got it (success, failure, cancelled), and K does so with what is left of an older state kept as well. For each
 * vector a line comes back with a letter per event: the state after it, c, o or h, in upper case where A was permitted.
 */
public final class Replay {
    private static final class Hands extends Clock {
        private long nanos;

        @Override public ZoneId getZone() { return ZoneOffset.UTC; }
        @Override public Clock withZone(ZoneId zone) { return this; }
        @Override public Instant instant() { return Instant.ofEpochSecond(0, nanos); }
        @Override public long millis() { return nanos / 1_000_000; }
    }

    private final Hands clock = new Hands();
    private final Map<Integer, Integer> admitted = new HashMap<>();
    private final StringBuilder states = new StringBuilder();
    private final CircuitBreaker breaker;
    private int generation;

    private Replay(String[] fields) {
        CircuitBreakerConfig config = CircuitBreakerConfig.custom()
            .slidingWindowType(SlidingWindowType.valueOf(fields[1]))
            .slidingWindowSize(Integer.parseInt(fields[2]))
            .minimumNumberOfCalls(Integer.parseInt(fields[3]))
            .failureRateThreshold(Float.parseFloat(fields[4]))
            .slowCallDurationThreshold(Duration.ofNanos(Long.parseLong(fields[5])))
            .slowCallRateThreshold(Float.parseFloat(fields[6]))
            .waitDurationInOpenState(Duration.ofNanos(Long.parseLong(fields[7])))
            .permittedNumberOfCallsInHalfOpenState(Integer.parseInt(fields[8]))
            .clock(clock)
            .build();
        breaker = CircuitBreaker.of("vector", config);
        breaker.getEventPublisher().onStateTransition(event -> generation++);
    }

    private void event(String[] fields) {
        clock.nanos += Long.parseLong(fields[0]);
        int call = Integer.parseInt(fields[2]);
        boolean permitted = false;
        if (fields[1].equals("A")) {
            permitted = breaker.tryAcquirePermission();
            if (permitted) admitted.put(call, generation);
        } else {
            tell(fields[1], admitted.remove(call), Long.parseLong(fields[3]));
        }
        char state = Character.toLowerCase(breaker.getState().name().charAt(0));
        states.append(permitted ? Character.toUpperCase(state) : state);
    }

    private void tell(String result, Integer of, long nanos) {
        if (of == null || (of != generation && !result.equals("K"))) return;
        switch (result) {
            case "F" -> breaker.onError(nanos, TimeUnit.NANOSECONDS, new RuntimeException());
            case "C" -> breaker.releasePermission();
            default -> breaker.onSuccess(nanos, TimeUnit.NANOSECONDS);
        }
    }

    public static void main(String[] arguments) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        Replay replay = null;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] fields = line.split(" ");
            if (fields[0].equals("V")) {
                if (replay != null) out.append(replay.states).append('\n');
                replay = new Replay(fields);
            } else {
                replay.event(fields);
            }
        }
        if (replay != null) out.append(replay.states).append('\n');
        System.out.print(out);
    }
}
